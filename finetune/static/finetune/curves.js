// Curves over steps as SVG: lines, dots where there are few points, marks of checkpoints, hover.
"use strict";
const Curves = (() => {
  const NS = "http://www.w3.org/2000/svg";
  const SPACE = { left: 56, right: 14, top: 6, bottom: 24 };
  // A line of more points is drawn faintly, with its moving average over it.
  const ROUGH = 60;
  const FEW = 24;

  const FORMATS = {
    percent: (value) => `${(value * 100).toFixed(value && value < 0.1 ? 1 : 0)}%`,
    bytes: (value) => {
      const units = ["B", "KB", "MB", "GB", "TB"];
      const place = value > 0 ? Math.min(4, Math.floor(Math.log2(value) / 10)) : 0;
      const shown = value / 1024 ** place;
      return `${shown.toFixed(shown < 10 && place ? 1 : 0)} ${units[place]}`;
    },
    plain: (value) => {
      const size = Math.abs(value);
      if (size && (size < 0.001 || size >= 1e6)) return value.toExponential(1).replace("e+", "e");
      if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
      return String(Number(value.toPrecision(3)));
    },
  };
  const PRECISE = {
    ...FORMATS,
    percent: (value) => `${(value * 100).toFixed(2)}%`,
    plain: (value) => (Math.abs(value) >= 1000 ? FORMATS.plain(value) : String(Number(value.toPrecision(5)))),
  };

  function element(name, attributes, parent) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent?.append(made);
    return made;
  }

  // Round numbers from `low` to `high`, about `count` of them.
  function ticks(low, high, count) {
    const rough = (high - low) / Math.max(1, count) || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((one) => one >= rough * 0.999);
    const found = [];
    // A sum with 0 makes -0 plain.
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-6; at += 1) found.push(at * step + 0);
    return found;
  }

  function range(values, fromZero) {
    const sorted = [...values].sort((a, b) => a - b);
    let [low, high] = [sorted[0], sorted.at(-1)];
    if (fromZero) low = Math.min(0, low);
    if (high - low < Math.abs(high) * 1e-6) {
      const about = Math.abs(high) * 0.1 || 1;
      [low, high] = fromZero && high > 0 ? [0, high * 1.2] : [low - about, high + about];
    }
    const room = (high - low) * 0.06;
    return [fromZero || low === 0 ? low : low > 0 ? Math.max(0, low - room) : low - room, high + room];
  }

  // Of a logarithmic axis: 1, 2 and 5 times each power of ten.
  function logTicks(low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const times of [1, 2, 5]) {
        const value = Number((times * 10 ** power).toPrecision(1));
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found;
  }

  // The mean of as many points before as after: one of those before alone would lag behind.
  function smoothed(points) {
    const most = Math.max(3, Math.min(25, Math.round(points.length / 30)));
    const sums = [0];
    for (const [, value] of points) sums.push(sums.at(-1) + value);
    return points.map(([step], place) => {
      const reach = Math.min(most, place, points.length - 1 - place);
      return [step, (sums[place + reach + 1] - sums[place - reach]) / (2 * reach + 1)];
    });
  }

  class Chart {
    constructor(box) {
      this.box = box;
      this.series = box.dataset.series.split(/ (?=\w+:)/).map((one) => one.split(":"));
      this.format = FORMATS[box.dataset.format ?? "plain"];
      this.precise = PRECISE[box.dataset.format ?? "plain"];
      this.tip = document.createElement("div");
      this.tip.className = "curve-tip";
      this.tip.hidden = true;
      this.svg = element("svg", { role: "img", tabindex: "-1" });
      this.svg.setAttribute("aria-label", box.closest("section").querySelector("h2").textContent);
      box.append(this.svg, this.tip);
      this.points = [];
      this.marks = [];
      this.total = 0;
      this.scale = box.closest("section").querySelector("[data-scale]");
      this.scale?.addEventListener("click", () => {
        this.chosen = this.scale.getAttribute("aria-pressed") === "true" ? "linear" : "log";
        this.draw();
      });
      new ResizeObserver(() => this.draw()).observe(box);
      box.addEventListener("pointermove", (event) => this.hover(event));
      box.addEventListener("pointerleave", () => this.leave());
    }

    show(points, marks, total) {
      [this.points, this.marks, this.total] = [points, "marks" in this.box.dataset ? marks : [], total];
      this.draw();
    }

    draw() {
      const { clientWidth: width, clientHeight: height } = this.svg;
      if (!width) return;
      this.svg.replaceChildren();
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const lines = this.series.map(([name]) =>
        this.points.filter((point) => Number.isFinite(point.values[name])).map((point) => [point.step, point.values[name]]),
      );
      const values = lines.flat().map((one) => one[1]);
      this.empty(values.length === 0);
      if (!values.length) return;
      const last = Math.max(this.total, this.points.at(-1).step);
      let [low, high] = range(values, "zero" in this.box.dataset);
      const log = this.logarithmic(values);
      if (log) [low, high] = [Math.min(...values) / 1.15, Math.max(...values) * 1.15];
      const height01 = log
        ? (value) => Math.log(value / low) / Math.log(high / low)
        : (value) => (value - low) / (high - low);
      const inner = { width: width - SPACE.left - SPACE.right, height: height - SPACE.top - SPACE.bottom };
      this.x = (step) => SPACE.left + (step / last) * inner.width;
      this.y = (value) => SPACE.top + (1 - height01(value)) * inner.height;
      this.last = last;
      this.floor = SPACE.top + inner.height;
      this.axes(log ? logTicks(low, high) : this.ticks(low, high, inner), inner, width);
      this.checkpoints();
      lines.forEach((points, number) => this.line(points, number));
      this.cross = element("line", { class: "cross", y1: SPACE.top, y2: this.floor, visibility: "hidden" }, this.svg);
      this.dots = this.series.map((_one, number) =>
        element("circle", { class: `dot series-${number + 1}`, r: 4.5, visibility: "hidden" }, this.svg),
      );
    }

    // Where a loss falls to a fraction, a linear axis would show a wall and a floor.
    logarithmic(values) {
      if (!this.scale) return false;
      const least = Math.min(...values);
      const possible = least > 0;
      const log = possible && (this.chosen ? this.chosen === "log" : Math.max(...values) / least > 12);
      this.scale.disabled = !possible;
      this.scale.setAttribute("aria-pressed", String(log));
      return log;
    }

    empty(is) {
      this.note?.remove();
      if (!is) return;
      this.note = Object.assign(document.createElement("p"), { className: "curve-empty", textContent: "No points yet" });
      this.box.append(this.note);
    }

    // Round numbers of bytes are round in their own unit.
    ticks(low, high, inner) {
      const unit = this.box.dataset.format === "bytes" ? 1024 ** Math.floor(Math.log2(high) / 10) : 1;
      return ticks(low / unit, high / unit, inner.height / 36).map((round) => round * unit);
    }

    axes(values, inner, width) {
      for (const value of values) {
        const y = this.y(value);
        element("line", { class: "grid", x1: SPACE.left, x2: width - SPACE.right, y1: y, y2: y }, this.svg);
        element("text", { x: SPACE.left - 8, y: y + 4, "text-anchor": "end" }, this.svg).textContent = this.format(value);
      }
      for (const step of ticks(0, this.last, inner.width / 75)) {
        if (!Number.isInteger(step)) continue;
        const text = element("text", { x: this.x(step), y: this.floor + 18, "text-anchor": "middle" }, this.svg);
        text.textContent = step.toLocaleString("en");
      }
    }

    checkpoints() {
      for (const mark of this.marks) {
        const x = this.x(mark.step);
        element("line", { class: "mark-line", x1: x, x2: x, y1: SPACE.top, y2: this.floor }, this.svg);
        const [y, size] = [this.floor, mark.best ? 6 : 4.5];
        const kind = `mark${mark.best ? " best" : ""}${mark.removed ? " removed" : ""}`;
        element("path", { class: kind, d: `M${x} ${y - size}L${x + size} ${y}L${x} ${y + size}L${x - size} ${y}Z` }, this.svg);
      }
    }

    line(points, number) {
      if (!points.length) return;
      const kind = `series-${number + 1}`;
      const path = (list) => list.map(([step, value], n) => `${n ? "L" : "M"}${this.x(step).toFixed(1)} ${this.y(value).toFixed(1)}`).join("");
      const rough = "smooth" in this.box.dataset && points.length > ROUGH && number === 0;
      if (number === 0 && points.length > 1) {
        const [first, end] = [this.x(points[0][0]), this.x(points.at(-1)[0])];
        const top = path(rough ? smoothed(points) : points);
        element("path", { class: `area ${kind}`, d: `${top}L${end} ${this.floor}L${first} ${this.floor}Z` }, this.svg);
      }
      if (rough) element("path", { class: `line faint ${kind}`, d: path(points) }, this.svg);
      element("path", { class: `line ${kind}`, d: path(rough ? smoothed(points) : points) }, this.svg);
      if (points.length <= FEW) {
        for (const [step, value] of points) element("circle", { class: `dot ${kind}`, cx: this.x(step), cy: this.y(value), r: 3.5 }, this.svg);
      }
    }

    hover(event) {
      if (!this.x || !this.points.length) return;
      const box = this.svg.getBoundingClientRect();
      const at = ((event.clientX - box.left - SPACE.left) / (box.width - SPACE.left - SPACE.right)) * this.last;
      let near = this.points[0];
      for (const point of this.points) if (Math.abs(point.step - at) < Math.abs(near.step - at)) near = point;
      const x = this.x(near.step);
      this.cross.setAttribute("x1", x);
      this.cross.setAttribute("x2", x);
      this.cross.setAttribute("visibility", "visible");
      const rows = [];
      this.series.forEach(([name, label], number) => {
        // Few points have validation figures: the last one before it holds still.
        const holder = number ? this.points.findLast((one) => one.step <= near.step && name in one.values) : near;
        const value = holder?.values[name];
        const dot = this.dots[number];
        dot.setAttribute("visibility", Number.isFinite(value) ? "visible" : "hidden");
        if (!Number.isFinite(value)) return;
        dot.setAttribute("cx", this.x(holder.step));
        dot.setAttribute("cy", this.y(value));
        rows.push([number, label, this.precise(value)]);
      });
      this.tell(near, rows, x, box);
    }

    tell(point, rows, x, box) {
      const title = document.createElement("strong");
      const mark = this.marks.find((one) => one.step === point.step);
      title.textContent = `Step ${point.step.toLocaleString("en")}, epoch ${point.epoch.toFixed(2)}${mark ? (mark.best ? ", best checkpoint" : ", checkpoint") : ""}`;
      this.tip.replaceChildren(title);
      for (const [number, label, value] of rows) {
        const row = document.createElement("div");
        const key = Object.assign(document.createElement("i"), { className: `curve-key series-${number + 1}` });
        const name = Object.assign(document.createElement("span"), { textContent: label });
        const shown = Object.assign(document.createElement("span"), { textContent: value });
        row.append(key, name, shown);
        this.tip.append(row);
      }
      this.tip.hidden = false;
      const left = x + 14 + this.tip.offsetWidth > box.width ? x - 14 - this.tip.offsetWidth : x + 14;
      this.tip.style.transform = `translate(${Math.max(0, left) + 8}px, 22px)`;
    }

    leave() {
      this.tip.hidden = true;
      for (const one of [this.cross, ...(this.dots ?? [])]) one?.setAttribute("visibility", "hidden");
    }
  }

  // What a job that goes on from a checkpoint gives again takes the place of what was there.
  function merge(known, fresh) {
    let kept = known;
    for (const point of fresh) {
      if (kept.length && kept.at(-1).step >= point.step) kept = kept.filter((one) => one.step < point.step);
      kept = [...kept, point];
    }
    return kept;
  }

  return { Chart, merge };
})();
