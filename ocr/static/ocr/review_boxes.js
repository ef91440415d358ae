// The left half: the page's image with the box of each line; zoom, pan, and boxes by the mouse.

import { bounds, rectangle } from "./review_model.js";

const SVG = "http://www.w3.org/2000/svg";
const SLIP = 4; // Pixels of the screen: a shorter way of the pointer is a click.

export class Boxes {
  /** `on`: select(id), change(id, polygon), draw(polygon). */
  constructor(root, on) {
    this.on = on;
    this.scroll = root.querySelector("#page-scroll");
    this.stage = root.querySelector("#stage");
    this.image = root.querySelector("#page-image");
    this.svg = root.querySelector("#boxes");
    this.level = root.querySelector("#zoom-level");
    this.shapes = new Map();
    this.active = null;
    this.drawing = false;
    this.editable = true;
    this.zoom = Number(localStorage.getItem("review.zoom")) || "fit";
    this.handles = document.createElementNS(SVG, "g");
    this.scroll.addEventListener("pointerdown", (event) => this.#down(event));
    this.scroll.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.setZoom(this.scale * Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
    new ResizeObserver(() => this.#fit()).observe(this.scroll);
  }

  load(model, url) {
    this.model = model;
    this.active = null;
    this.image.width = model.width;
    this.image.height = model.height;
    this.image.src = url;
    this.image.alt = `Page ${model.page} of ${model.document.name}`;
    this.svg.setAttribute("viewBox", `0 0 ${model.width} ${model.height}`);
    this.scroll.scrollTo(0, 0);
    this.#fit();
  }

  /** Draws all boxes anew. `hue(line)`: its colour; `level(line)`: low, high or corrected. */
  draw(hue, level) {
    this.look = [hue, level];
    this.shapes.clear();
    for (const id of this.model.order) {
      const shape = document.createElementNS(SVG, "polygon");
      shape.dataset.line = id;
      this.shapes.set(id, shape);
      this.#dress(id);
    }
    this.svg.replaceChildren(...this.shapes.values(), this.handles);
    this.activate(this.active);
  }

  redraw(id) {
    if (!this.shapes.has(id)) return;
    this.#dress(id);
    if (id === this.active) this.#place(this.model.line(id).polygon);
  }

  #dress(id) {
    const [shape, line] = [this.shapes.get(id), this.model.line(id)];
    shape.setAttribute("points", line.polygon.map((point) => point.join()).join(" "));
    shape.dataset.level = this.look[1](line);
    shape.style.setProperty("--hue", this.look[0](line));
  }

  activate(id) {
    this.shapes.get(this.active)?.classList.remove("is-active");
    this.active = id;
    const shape = this.shapes.get(id);
    shape?.classList.add("is-active");
    if (shape) this.svg.insertBefore(shape, this.handles); // Above its neighbours.
    this.#place(shape ? this.model.line(id).polygon : null);
  }

  /** The box that was drawn and whose text is being typed. */
  showDraft(polygon) {
    this.svg.querySelector(".is-draft")?.remove();
    if (!polygon) return;
    const shape = document.createElementNS(SVG, "polygon");
    shape.classList.add("is-draft");
    shape.setAttribute("points", polygon.map((point) => point.join()).join(" "));
    this.svg.append(shape);
  }

  setDrawing(on) {
    this.drawing = on && this.editable;
    this.scroll.classList.toggle("is-drawing", this.drawing);
  }

  // -- zoom and pan -----------------------------------------------------------------------------

  get scale() {
    return this.stage.getBoundingClientRect().width / this.model.width;
  }

  #fit() {
    if (!this.model) return;
    const { width } = this.model;
    this.stage.style.width = this.zoom === "fit" ? "" : `${Math.round(width * this.zoom)}px`;
    this.stage.style.aspectRatio = `${width} / ${this.model.height}`;
    this.level.textContent = `${Math.round(this.scale * 100)} %`;
    this.svg.style.setProperty("--px", 1 / this.scale);
    if (this.active) this.activate(this.active);
  }

  /** `value`: "fit", or a share of the page's own pixels. What is under (x, y) stays there. */
  setZoom(value, x, y) {
    const pane = this.scroll.getBoundingClientRect();
    const [atX, atY] = [x ?? pane.left + pane.width / 2, y ?? pane.top + pane.height / 2];
    const before = this.stage.getBoundingClientRect();
    this.zoom = value === "fit" ? "fit" : Math.min(6, Math.max(0.1, value));
    localStorage.setItem("review.zoom", this.zoom);
    this.#fit();
    const after = this.stage.getBoundingClientRect();
    const factor = after.width / before.width;
    this.scroll.scrollBy({
      left: after.left + (atX - before.left) * factor - atX,
      top: after.top + (atY - before.top) * factor - atY,
      behavior: "instant",
    });
  }

  /** Scrolls the page only if the box isn't well in sight. */
  reveal(id) {
    const shape = this.shapes.get(id);
    if (!shape) return;
    const [outer, inner] = [this.scroll.getBoundingClientRect(), shape.getBoundingClientRect()];
    const margin = Math.min(80, outer.height / 4);
    if (inner.top < outer.top + margin || inner.bottom > outer.bottom - margin) {
      this.scroll.scrollTop += (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
    }
    if (inner.left < outer.left || inner.right > outer.right) {
      this.scroll.scrollLeft += inner.left - outer.left - 24;
    }
  }

  // -- the mouse --------------------------------------------------------------------------------

  #point(event) {
    const box = this.stage.getBoundingClientRect();
    const within = (value, most) => Math.round(Math.min(Math.max(value, 0), most) * 10) / 10;
    return [
      within((event.clientX - box.left) / this.scale, this.model.width),
      within((event.clientY - box.top) / this.scale, this.model.height),
    ];
  }

  #down(event) {
    if (event.button !== 0) return;
    const target = event.target;
    if (!target.closest("#stage") && target !== this.scroll) return;
    const start = this.#point(event);
    let drag;
    if (this.drawing) drag = this.#drawn(start);
    else if (this.editable && target.dataset.corner) {
      drag = this.#resized(Number(target.dataset.corner));
    } else if (this.editable && target.dataset.line && target.dataset.line === this.active) {
      drag = this.#moved(start);
    } else drag = this.#panned(event, target.dataset.line);
    event.preventDefault();
    this.scroll.focus({ preventScroll: true });
    this.scroll.setPointerCapture(event.pointerId);
    let far = false;
    const move = (now) => {
      far ||= Math.hypot(now.clientX - event.clientX, now.clientY - event.clientY) > SLIP;
      if (far) drag.move(this.#point(now), now);
    };
    const end = (now) => {
      this.scroll.removeEventListener("pointermove", move);
      this.scroll.removeEventListener("pointerup", end);
      this.scroll.removeEventListener("pointercancel", end);
      drag.end(far && now.type === "pointerup");
    };
    this.scroll.addEventListener("pointermove", move);
    this.scroll.addEventListener("pointerup", end);
    this.scroll.addEventListener("pointercancel", end);
  }

  #panned(event, id) {
    const [left, top] = [this.scroll.scrollLeft, this.scroll.scrollTop];
    this.scroll.classList.add("is-panning");
    return {
      move: (_, now) => {
        this.scroll.scrollLeft = left + event.clientX - now.clientX;
        this.scroll.scrollTop = top + event.clientY - now.clientY;
      },
      end: (far) => {
        this.scroll.classList.remove("is-panning");
        if (!far && id) this.on.select(id);
      },
    };
  }

  #drawn([x, y]) {
    let polygon = null;
    return {
      move: ([u, v]) => {
        polygon = rectangle(Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v));
        this.showDraft(polygon);
      },
      end: (far) => {
        this.setDrawing(false);
        if (far && polygon) this.on.draw(polygon);
        else this.showDraft(null);
      },
    };
  }

  #moved([x, y]) {
    const old = this.model.line(this.active).polygon;
    const { left, right, top, low } = bounds(old);
    return this.#changed((u, v) => {
      const across = Math.min(Math.max(u - x, -left), this.model.width - right);
      const down = Math.min(Math.max(v - y, -top), this.model.height - low);
      return old.map(([a, b]) => [round(a + across), round(b + down)]);
    });
  }

  // A box with straight edges keeps them; of a slanted one the corner alone moves.
  #resized(corner) {
    const old = this.model.line(this.active).polygon;
    const straight = old.length === 4 && old.every(([x, y], n) => {
      const [u, v] = old[(n + 1) % 4];
      return Math.abs(x - u) < 1 || Math.abs(y - v) < 1;
    });
    if (!straight) return this.#changed((u, v) => old.with(corner, [u, v]));
    const [x, y] = old[(corner + 2) % 4];
    return this.#changed((u, v) =>
      rectangle(Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)));
  }

  #changed(shape) {
    const id = this.active;
    let polygon = null;
    return {
      move: ([u, v]) => {
        polygon = shape(u, v);
        this.shapes.get(id)?.setAttribute("points", polygon.map((p) => p.join()).join(" "));
        this.#place(polygon);
      },
      end: (far) => {
        if (far && polygon && this.shapes.has(id)) this.on.change(id, polygon);
        else this.redraw(id);
      },
    };
  }

  /** Puts the handles on the corners of the active box. */
  #place(polygon) {
    if (!polygon || !this.editable) {
      this.handles.replaceChildren();
      return;
    }
    this.handles.replaceChildren(...polygon.map(([x, y], corner) => {
      const handle = document.createElementNS(SVG, "circle");
      handle.setAttribute("cx", x);
      handle.setAttribute("cy", y);
      handle.dataset.corner = corner;
      return handle;
    }));
  }
}

function round(value) {
  return Math.round(value * 10) / 10;
}
