// Calls of the review API, and the queue in which changes wait until they are stored.

/** No answer, or one that says "later": the change is kept and tried again. */
export class Unreachable extends Error {}

/** Refused; `status` and the body's `error`, and for a 409 the page as it is now in `review`. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body?.error?.code;
    this.review = body?.review;
    this.line = body?.line;
  }
}

export class Api {
  constructor(base, token) {
    this.base = base;
    this.token = token;
  }

  /** The answer's JSON; null for 304. `path` is below /reviews/. */
  async call(method, path, body, headers = {}) {
    let answer;
    try {
      answer = await fetch(this.base + path, {
        method,
        headers: {
          "X-CSRFToken": this.token,
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      throw new Unreachable(error.message);
    }
    if (answer.status === 304 || answer.status === 204) return null;
    if (answer.status >= 500 || answer.status === 429) throw new Unreachable(answer.statusText);
    const text = await answer.text();
    const data = text.startsWith("{") ? JSON.parse(text) : null;
    if (!answer.ok) throw new Refused(answer.status, data);
    return data;
  }
}

const PAUSES = [1000, 2000, 4000, 8000, 15000];

/**
 * One change after the other, in the order in which they were made. A change that can't be sent
 * stays first in the queue and is tried again; `onState` hears "saved", "saving" or "offline".
 */
export class SaveQueue {
  constructor(onState) {
    this.waiting = [];
    this.running = null;
    this.tries = 0;
    this.onState = onState;
    addEventListener("online", () => this.#wake?.());
  }

  #wake = null;

  get idle() {
    return !this.running && !this.waiting.length;
  }

  /** `task`: {key, send() -> promise, done(answer), refused(error)}; replaces one of its key. */
  push(task) {
    const same = this.waiting.findIndex((other) => task.key && other.key === task.key);
    if (same >= 0) this.waiting[same] = task;
    else this.waiting.push(task);
    this.#run();
  }

  async #run() {
    if (this.running) return;
    while (this.waiting.length) {
      this.running = this.waiting.shift();
      this.onState(this.tries ? "offline" : "saving");
      try {
        const answer = await this.running.send();
        this.tries = 0;
        this.running.done(answer);
      } catch (error) {
        if (error instanceof Unreachable) {
          // What was typed meanwhile for the same line is what is sent next.
          const newer = this.waiting.some((other) => other.key && other.key === this.running.key);
          if (!newer) this.waiting.unshift(this.running);
          this.onState("offline");
          await this.#pause(PAUSES[Math.min(this.tries, PAUSES.length - 1)]);
          this.tries += 1;
        } else if (error instanceof Refused) {
          this.tries = 0;
          this.running.refused(error);
        } else {
          this.running = null;
          throw error;
        }
      }
    }
    this.running = null;
    this.onState("saved");
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, milliseconds);
    });
  }
}
