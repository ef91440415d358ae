// Each change of a page: shown at once where that is safe, sent in order, and made known to the
// others' way of seeing it. Nothing typed is lost: it waits in the browser until it is stored.

import { Refused, SaveQueue } from "./review_api.js";
import { DRAFT } from "./review_model.js";

const NOT_STORED = { error: { message: "A line is not stored yet. Decide what it is to say first." } };
const HELD = ["conflict", "refused"]; // These wait for the annotator, not for the server.

export class Changes {
  /** `view`: refresh(changed, structure, mine), open(id, caret), say(text, tone), saving(state, count). */
  constructor(api, list, view) {
    this.api = api;
    this.list = list;
    this.view = view;
    this.queue = new SaveQueue((state) => {
      for (const [id, waiting] of list.states) {
        if (HELD.includes(waiting.state)) continue;
        waiting.state = state === "offline" ? "offline" : "saving";
        list.redraw(id);
      }
      view.saving(state, list.states.size);
    });
  }

  load(model) {
    this.model = model;
    this.own = new Map(); // The versions in which this browser changed a line.
    this.#recall();
  }

  /** The first line whose text waits for the annotator. */
  get held() {
    return [...this.list.states].find(([, waiting]) => HELD.includes(waiting.state))?.[0];
  }

  /** What others did, or what came back with a change of one's own; returns the lines changed. */
  take(delta, mine = false) {
    const before = new Map(this.model.order.map((id) => [id, this.model.line(id)]));
    const { changed, structure } = this.model.apply(delta);
    for (const line of changed) if (mine && line.rev === delta.version) this.own.set(line.id, line.rev);
    for (const [id, line] of before) if (!this.model.line(id)) this.#gone(id, line);
    this.view.refresh(changed, structure, mine ? delta.version : null);
    return changed;
  }

  // -- text -------------------------------------------------------------------------------------

  text(id, text, seen) {
    if (!text.trim()) {
      this.list.states.delete(id);
      this.remove(id, seen);
      return;
    }
    this.list.states.set(id, { state: "saving", text, seen });
    this.#remember();
    this.list.redraw(id);
    this.#push(`lines/${id}`, {
      key: `text ${id}`,
      method: "PATCH",
      body: () => ({ text, version: this.#seen([id], seen) }),
      done: () => this.#stored(id, text),
      refused: (error) => {
        const now = this.model.line(id);
        if (!now) return true; // Said already, with what was typed.
        if (error.code !== "line_changed") {
          this.#keep(id, { state: "refused", text, seen });
          return false;
        }
        // The answer to the first try was lost, and the second one met what the first had done.
        if (now.text === text.trim()) this.#stored(id, text);
        else this.#keep(id, { state: "conflict", text, seen, theirs: now.text, by: now.by });
        return true;
      },
    });
  }

  resolve(id, mine) {
    const waiting = this.list.states.get(id);
    if (waiting?.state !== "conflict") return;
    const typed = this.list.active === id ? this.list.text : waiting.text;
    this.list.states.delete(id);
    this.#remember();
    if (mine) {
      this.list.given = typed;
      this.text(id, typed, this.model.line(id).rev);
    } else {
      this.list.redraw(id);
      this.list.open(id);
    }
    this.view.saving(this.queue.idle ? "saved" : "saving", this.list.states.size);
  }

  // -- boxes and order --------------------------------------------------------------------------

  add(text, polygon, after) {
    this.#push("lines", {
      body: () => ({ text, polygon, after: this.model.line(after) ? after : this.model.order.at(-1) ?? null }),
      done: (id) => this.view.open(id),
    });
  }

  box(id, polygon) {
    const seen = this.model.line(id).rev;
    this.#push(`lines/${id}`, {
      method: "PATCH",
      body: () => ({ polygon, version: this.#seen([id], seen) }),
      refused: () => { this.view.refresh([this.model.line(id)].filter(Boolean), false, null); },
    });
  }

  remove(id, seen = this.model.line(id).rev) {
    const next = this.model.beside(id, 1) ?? this.model.beside(id, -1);
    this.#push(`lines/${id}`, {
      method: "DELETE",
      query: () => ({ version: this.#seen([id], seen) }),
      done: () => { if (this.list.active === null && next) this.view.open(next); },
    });
  }

  merge(id, other) {
    const seen = Math.max(this.model.line(id).rev, this.model.line(other).rev);
    const caret = [...this.model.line(id).text].length;
    this.#push("merge", {
      body: () => ({ lines: [id, other], version: this.#seen([id, other], seen) }),
      done: () => this.view.open(id, caret),
    });
  }

  split(id, at) {
    const seen = this.model.line(id).rev;
    this.#push("split", {
      body: () => ({ line: id, at, version: this.#seen([id], seen) }),
      done: () => this.view.open(this.model.beside(id, 1), "start"),
    });
  }

  reorder(id, by) {
    const order = [...this.model.order];
    const at = order.indexOf(id);
    if (!order[at + by]) return;
    [order[at], order[at + by]] = [order[at + by], order[at]];
    this.#push("order", {
      body: () => ({ order, version: this.model.version }),
      done: () => this.view.open(id),
    });
  }

  undo() {
    this.#push("undo", { body: () => ({}), done: (id) => this.view.open(id) });
  }

  /** accept, flag, reopen. `done` runs once the server has it. */
  decide(what, body, done) {
    this.#push(what, {
      body: () => {
        if (what === "accept" && this.held) throw new Refused(409, NOT_STORED);
        return body?.();
      },
      done,
      refused: () => { if (this.held) this.view.open(this.held); },
    });
  }

  // -- parts ------------------------------------------------------------------------------------

  #push(path, { method = "POST", body, query, key, done, refused }) {
    const page = this.model;
    const since = () => ({ since: page.version });
    this.queue.push({
      key: key && `${page.id} ${key}`,
      send: async () => {
        const asked = query ? `?${new URLSearchParams({ ...query(), ...since() })}` : "";
        const sent = body ? { ...body(), ...since() } : undefined;
        return this.api.call(method, `${page.id}/${path}${asked}`, sent);
      },
      done: (answer) => {
        if (page !== this.model) return;
        const changed = answer ? this.take(answer, true) : [];
        // Others' changes can come with the answer to one's own.
        done?.(changed.find((line) => line.rev === answer.version)?.id);
      },
      refused: (error) => {
        if (page !== this.model) return;
        if (error.review) this.take(error.review);
        if (!refused?.(error)) this.view.say(error.message, "bad");
      },
    });
  }

  /** The version to name: what was on the screen, or one's own change of the line after that. */
  #seen(ids, version) {
    return Math.max(version, ...ids.map((id) => this.own.get(id) ?? 0));
  }

  #stored(id, text) {
    const waiting = this.list.states.get(id);
    if (waiting && waiting.text === text) this.list.states.delete(id);
    this.#remember();
    this.list.redraw(id);
    this.list.refresh(id);
  }

  /** A text that waits for the annotator: it was refused, or somebody else has written another. */
  #keep(id, waiting) {
    this.list.states.set(id, waiting);
    this.#remember();
    this.list.redraw(id);
    this.view.saving("saved", this.list.states.size);
  }

  /** Somebody typed in a line that is no longer there. */
  #gone(id, line) {
    const waiting = this.list.states.get(id);
    const typed = this.list.active === id && this.list.dirty ? this.list.text : waiting?.text;
    this.list.states.delete(id);
    this.#remember();
    if (typed && typed !== line.text && id !== DRAFT) {
      this.view.say(`The line was removed or merged while you changed it to “${typed}”.`, "bad");
    }
  }

  // What is not stored survives a reload, a crash and a dead battery.
  #remember() {
    const kept = [...this.list.states].map(([id, { text, seen }]) => ({ id, text, seen: seen ?? 0 }));
    const name = `review.unsaved.${this.model.id}`;
    if (kept.length) localStorage.setItem(name, JSON.stringify(kept));
    else localStorage.removeItem(name);
  }

  #recall() {
    const kept = localStorage.getItem(`review.unsaved.${this.model.id}`);
    for (const { id, text, seen } of kept ? JSON.parse(kept) : []) {
      if (this.model.line(id) && this.model.line(id).text !== text) this.text(id, text, seen);
    }
  }
}
