// The right half: the lines in reading order, one of them in the editor.

import { drawCrop } from "./review_crop.js";
import { DRAFT } from "./review_model.js";

const ICONS = { saving: "sync", offline: "cloud_off", conflict: "warning", refused: "error" };

export class LineList {
  /**
   * `on`: user (a name), save(id, text, seen), draft(text), dropDraft(), select(id), opened(id),
   * resolve(id, mine).
   */
  constructor(root, image, on) {
    this.on = on;
    this.image = image;
    this.pane = root.querySelector("#line-scroll");
    this.list = root.querySelector("#lines");
    this.editor = root.querySelector("#editor").content.firstElementChild;
    this.conflict = root.querySelector("#conflict").content.firstElementChild;
    this.canvas = this.editor.querySelector("canvas");
    this.field = this.editor.querySelector("textarea");
    this.rows = new Map();
    this.states = new Map(); // What is not stored yet: {state, text, theirs, by}.
    this.active = null;
    this.draft = null;
    this.editable = true;
    this.list.addEventListener("click", (event) => this.#clicked(event));
    this.field.addEventListener("input", () => this.#grow());
    this.field.addEventListener("focus", () => this.list.classList.add("is-editing"));
    this.field.addEventListener("blur", () => {
      this.list.classList.remove("is-editing");
      if (!this.moving) this.commit();
    });
    image.addEventListener("load", () => this.crop());
    new ResizeObserver(() => this.crop()).observe(this.list);
  }

  load(model) {
    this.model = model;
    this.active = this.draft = null;
    this.states.clear();
    this.editor.remove();
    this.pane.scrollTo(0, 0);
  }

  /** Builds the list anew; what is in the editor stays in it. */
  draw(look) {
    this.look = look;
    const editing = this.#inEditor();
    this.rows.clear();
    const order = [...this.model.order];
    if (this.draft) order.splice(order.indexOf(this.draft.after) + 1, 0, DRAFT);
    for (const [number, id] of order.entries()) {
      const row = document.createElement("li");
      row.dataset.line = id;
      row.innerHTML = '<button type="button" tabindex="-1"><span class="row-number"></span>'
        + '<span class="row-text" dir="auto"></span><span class="row-by"></span>'
        + '<span class="row-state material-symbols-outlined" aria-hidden="true"></span>'
        + '<span class="row-confidence"></span></button>';
      row.querySelector(".row-number").textContent = number + 1;
      this.rows.set(id, row);
      this.redraw(id);
    }
    this.#keep(() => this.list.replaceChildren(...this.rows.values()));
    if (this.active && !this.rows.has(this.active)) this.active = null;
    if (this.active) this.#mount(editing);
  }

  redraw(id) {
    const row = this.rows.get(id);
    if (!row) return;
    const waiting = this.states.get(id);
    if (id === DRAFT) {
      row.querySelector(".row-text").textContent = "New line";
      row.dataset.level = "draft";
      return;
    }
    const line = this.model.line(id);
    const share = Math.round(line.confidence * 100);
    row.dataset.level = this.look.level(line);
    row.dataset.state = waiting?.state ?? "";
    row.style.setProperty("--hue", this.look.hue(line));
    row.querySelector(".row-text").textContent = waiting?.text ?? line.text;
    row.querySelector(".row-state").textContent = ICONS[waiting?.state] ?? (line.by ? "edit" : "");
    row.querySelector(".row-by").textContent = line.by && line.by !== this.on.user ? line.by : "";
    row.querySelector(".row-confidence").textContent = line.by ? "" : share;
    const said = line.by ? `corrected by ${line.by}` : `confidence ${share} percent`;
    row.firstElementChild.setAttribute("aria-label", `${waiting?.text ?? line.text}, ${said}`);
    this.#showConflict(row, waiting);
  }

  /** For a moment, where somebody else's change has come in. */
  flash(id) {
    const row = this.rows.get(id);
    row?.classList.remove("is-new");
    requestAnimationFrame(() => row?.classList.add("is-new"));
  }

  // -- the editor -------------------------------------------------------------------------------

  get text() {
    return this.field.value;
  }

  /** Whether something was typed that is not on its way yet. */
  get dirty() {
    return this.active !== null && this.editor.isConnected && this.field.value !== this.given;
  }

  /** Opens the editor on a line; `caret`: "all", "start", "end" or a place in the text. */
  open(id, caret = "end", focus = true) {
    if (id !== this.active) this.commit();
    this.rows.get(this.active)?.classList.remove("is-active");
    this.active = this.rows.has(id) ? id : null;
    this.on.opened(this.active);
    if (!this.active) return;
    this.given = this.#textOf(id);
    this.seen = this.model.line(id)?.rev ?? 0;
    this.field.value = this.given;
    this.#mount(focus);
    const end = this.given.length;
    const [from, to] = { all: [0, end], start: [0, 0], end: [end, end] }[caret] ?? [caret, caret];
    if (focus) this.field.setSelectionRange(from, to);
  }

  /** Sends what was typed, if it says something else; an open conflict waits for its answer. */
  commit() {
    if (!this.dirty || this.states.get(this.active)?.state === "conflict") return;
    const text = this.field.value;
    if (this.active === DRAFT) {
      if (text.trim()) this.on.draft(text);
      return;
    }
    this.given = text;
    this.on.save(this.active, text, this.seen);
  }

  /** Back to the text as it was given; false if there was nothing to take back. */
  revert() {
    if (this.active === DRAFT) {
      this.on.dropDraft();
      return true;
    }
    if (!this.dirty) return false;
    this.field.value = this.given;
    this.#grow();
    return true;
  }

  /** The line has another text now, through a change that isn't this editor's typing. */
  refresh(id) {
    if (id !== this.active || !this.editor.isConnected || this.dirty) return;
    this.given = this.#textOf(id);
    this.seen = this.model.line(id)?.rev ?? 0;
    if (this.field.value !== this.given) this.field.value = this.given;
    this.#grow();
    this.crop();
  }

  startDraft(polygon, after) {
    this.draft = { polygon, after };
    this.draw(this.look);
    this.open(DRAFT);
  }

  endDraft() {
    if (this.active === DRAFT) this.active = null;
    this.draft = null;
    this.draw(this.look);
  }

  crop() {
    const polygon = this.active === DRAFT
      ? this.draft.polygon : this.model?.line(this.active)?.polygon;
    if (polygon && this.editor.isConnected) {
      drawCrop(this.canvas, this.image, this.model, polygon, this.field.clientWidth - 2);
    }
  }

  setEditable(on) {
    this.editable = on;
    this.field.readOnly = !on;
  }

  #textOf(id) {
    return id === DRAFT ? "" : this.states.get(id)?.text ?? this.model.line(id).text;
  }

  #inEditor() {
    return document.activeElement === this.field;
  }

  #mount(focus) {
    const row = this.rows.get(this.active);
    row.classList.add("is-active");
    const number = row.querySelector(".row-number").textContent;
    this.field.setAttribute("aria-label", `Text of line ${number}`);
    const caret = [this.field.selectionStart, this.field.selectionEnd];
    this.#keep(() => row.firstElementChild.after(this.editor));
    this.#grow();
    this.crop();
    if (focus) {
      this.field.focus({ preventScroll: true });
      this.field.setSelectionRange(...caret);
    }
    this.#reveal(row);
  }

  // Moving the field takes the focus from it, which is not the annotator leaving the line.
  #keep(move) {
    this.moving = true;
    move();
    this.moving = false;
  }

  #grow() {
    this.field.style.height = "";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }

  #reveal(row) {
    const [outer, inner] = [this.pane.getBoundingClientRect(), row.getBoundingClientRect()];
    const margin = outer.height / 4;
    if (inner.top < outer.top + 8) this.pane.scrollTop += inner.top - outer.top - margin;
    else if (inner.bottom > outer.bottom - 8) {
      this.pane.scrollTop += inner.bottom - outer.bottom + margin;
    }
  }

  #showConflict(row, waiting) {
    row.querySelector(".row-conflict")?.remove();
    if (waiting?.state !== "conflict") return;
    const note = this.conflict.cloneNode(true);
    note.querySelector(".conflict-by").textContent = waiting.by;
    note.querySelector(".conflict-text").textContent = waiting.theirs;
    row.append(note);
  }

  #clicked(event) {
    const choice = event.target.closest("[data-resolve]");
    const row = event.target.closest("li[data-line]");
    if (choice) this.on.resolve(row.dataset.line, choice.dataset.resolve === "mine");
    else if (row && event.target.closest("button")) this.on.select(row.dataset.line);
  }
}
