// The page under review as this browser knows it: lines by id, their order, and where it stands.

export const DRAFT = "draft"; // The id of a line that was drawn and has no text yet.

export class PageModel {
  constructor(state) {
    Object.assign(this, state);
    this.order = state.lines.map((line) => line.id);
    this.lines = new Map(state.lines.map((line) => [line.id, line]));
  }

  /**
   * Takes in what the server answered. Answers can overtake each other, so that a line only gets
   * newer, and an answer older than what is known changes neither the order nor the standing.
   * Returns the lines that changed, and whether the list has others or another order now.
   */
  apply(delta) {
    const changed = delta.lines.filter((line) => line.rev > (this.lines.get(line.id)?.rev ?? -1));
    for (const line of changed) this.lines.set(line.id, line);
    if (delta.version < this.version) return { changed, structure: false };
    const order = delta.order ?? delta.lines.map((line) => line.id);
    const structure = order.join() !== this.order.join();
    this.order = order;
    for (const id of this.lines.keys()) if (!order.includes(id)) this.lines.delete(id);
    for (const name of ["version", "status", "reviewer", "claimed_by", "note"]) {
      this[name] = delta[name];
    }
    return { changed, structure };
  }

  line(id) {
    return this.lines.get(id);
  }

  /** The id `by` places away in reading order; undefined beyond the ends. */
  beside(id, by) {
    const at = this.order.indexOf(id);
    return at < 0 ? this.order[0] : this.order[at + by];
  }

  /** What an engine was unsure of, and nobody has looked into yet. */
  isLow(line, threshold) {
    return line.by === "" && line.confidence < threshold;
  }

  /** The next such line after `id`, or before it if `by` is -1; goes round the ends. */
  lowFrom(id, by, threshold) {
    const count = this.order.length;
    const at = this.order.indexOf(id);
    for (let step = 1; step <= count; step += 1) {
      const one = this.order[(at + by * step + count * 2) % count];
      if (this.isLow(this.lines.get(one), threshold)) return one;
    }
    return undefined;
  }

  /** The line after which a new box at `polygon` is read: left of it in its row, else above it. */
  before(polygon) {
    const box = bounds(polygon);
    let best = null;
    let nearest = Infinity;
    for (const id of this.order) {
      const other = bounds(this.lines.get(id).polygon);
      const inRow = Math.abs(other.middle - box.middle) < Math.min(other.height, box.height) / 2;
      const overlaps = other.left < box.right && other.right > box.left;
      let away = Infinity;
      if (inRow && other.left < box.left) away = (box.left - other.left) / 1e3;
      else if (!inRow && other.middle < box.middle) {
        away = box.middle - other.middle + (overlaps ? 0 : this.height);
      }
      if (away <= nearest) [nearest, best] = [away, id];
    }
    return nearest < Infinity ? best : null;
  }
}

export function bounds(polygon) {
  const xs = polygon.map(([x]) => x);
  const ys = polygon.map(([, y]) => y);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [top, low] = [Math.min(...ys), Math.max(...ys)];
  return { left, right, top, low, width: right - left, height: low - top, middle: (top + low) / 2 };
}

export function rectangle(left, top, right, low) {
  return [[left, top], [right, top], [right, low], [left, low]];
}
