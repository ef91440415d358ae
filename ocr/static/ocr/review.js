// The review page: puts the image, the list and the changes together, and obeys the keyboard.

import { Api, Refused, Unreachable } from "./review_api.js";
import { Boxes } from "./review_boxes.js";
import { Changes } from "./review_changes.js";
import { describe, meaning } from "./review_keys.js";
import { LineList } from "./review_list.js";
import { bounds, PageModel, rectangle } from "./review_model.js";

const LOOK_MS = 4000; // How often is asked what others did.
const CLAIM_MS = 5 * 60 * 1000;

const root = document.getElementById("review");
const given = (id) => JSON.parse(document.getElementById(id).textContent);
const at = (id) => document.getElementById(id);
const config = given("review-config");
const api = new Api(config.api, root.dataset.csrf);

let model = null;
let last = 0; // When this page was claimed.
const threshold = at("threshold");
threshold.value = localStorage.getItem("review.threshold") ?? 90;

// -- how a line looks -----------------------------------------------------------------------------

const limit = () => Number(threshold.value) / 100;
const look = {
  // Red, amber at the threshold, then green: hues of oklch.
  hue(line) {
    const share = line.confidence / limit();
    return Math.round(share < 1 ? 27 + 45 * Math.max(0, (share - 0.4) / 0.6) : 150);
  },
  level(line) {
    if (line.by) return "corrected";
    return model.isLow(line, limit()) ? "low" : "high";
  },
};

// -- the parts ------------------------------------------------------------------------------------

const boxes = new Boxes(root, {
  select: (id) => list.open(id, "end"),
  change: (id, polygon) => changes.box(id, polygon),
  draw: (polygon) => draft(polygon),
});

const list = new LineList(root, boxes.image, {
  user: config.user,
  save: (id, text, seen) => changes.text(id, text, seen),
  draft: (text) => {
    const { polygon, after } = list.draft;
    dropDraft();
    changes.add(text, polygon, after);
  },
  dropDraft: () => dropDraft(),
  select: (id) => list.open(id, "end"),
  resolve: (id, mine) => changes.resolve(id, mine),
  opened: (id) => {
    boxes.activate(id);
    boxes.reveal(id);
  },
});

const changes = new Changes(api, list, {
  say,
  saving: showSaving,
  refresh(changed, structure, mine) {
    if (structure) redraw();
    for (const line of changed) {
      if (!structure) {
        list.redraw(line.id);
        boxes.redraw(line.id);
      }
      if (mine !== line.rev) list.flash(line.id);
      list.refresh(line.id);
    }
    showStanding();
  },
  open: (id, caret) => { if (id) list.open(id, caret); },
});

function redraw() {
  boxes.draw(look.hue, look.level);
  list.draw(look);
}

function load(state, claimed) {
  model = new PageModel(state);
  last = claimed ? Date.now() : 0;
  list.load(model);
  boxes.load(model, config.image.replace("/0/", `/${model.id}/`));
  redraw();
  changes.load(model);
  showStanding();
  showSaving("saved", 0);
  at("page-name").textContent = at("page-name").title = model.document.name;
  at("page-facts").textContent = [
    `Page ${model.page} of ${model.pages}`, model.engine, model.language, model.model_version,
  ].filter(Boolean).join(" · ");
  document.title = `Review: ${model.document.name}, page ${model.page}`;
  at("done").hidden = true;
  say("");
  const first = model.lowFrom(undefined, 1, limit()) ?? model.order[0];
  if (first) list.open(first);
}

// -- what the head of the page says ---------------------------------------------------------------

function showStanding() {
  const accepted = model.status === "accepted";
  const status = at("page-status");
  status.textContent = model.status;
  status.dataset.status = model.status;
  boxes.editable = !accepted;
  list.setEditable(!accepted);
  at("reopen").hidden = model.status === "open";
  at("accept").hidden = accepted;
  at("flag").hidden = model.status !== "open";
  const lines = model.order.map((id) => model.line(id));
  const low = lines.filter((line) => look.level(line) === "low").length;
  const corrected = lines.filter((line) => line.by).length;
  at("line-count").textContent = `${lines.length} line${lines.length === 1 ? "" : "s"}`;
  at("low-count").textContent = low;
  at("corrected-count").textContent = corrected;
  at("threshold-value").textContent = `${threshold.value} %`;
  const other = model.claimed_by && model.claimed_by !== config.user ? model.claimed_by : "";
  const standing = {
    accepted: `Accepted by ${model.reviewer}. Reopen the page to change it.`,
    flagged: `Flagged by ${model.reviewer}${model.note ? `: ${model.note}` : ""}`,
    open: other && `${other} is reviewing this page, too. You see each other's changes.`,
  }[model.status];
  at("standing").textContent = standing;
  at("standing").hidden = !standing;
}

function showSaving(state, count) {
  const held = state === "saved" ? list.states.get(changes.held)?.state : undefined;
  const shown = held ?? state;
  const waiting = `${count} change${count === 1 ? "" : "s"}`;
  at("saving").dataset.state = shown;
  at("saving-text").textContent = {
    saved: "All changes saved",
    saving: "Saving…",
    offline: `Offline – ${waiting} kept here, trying again`,
    conflict: "Somebody else changed the same line",
    refused: "A line could not be stored",
  }[shown];
}

function say(text, tone = "") {
  at("notice").hidden = !text;
  at("notice").dataset.tone = tone;
  at("notice-text").textContent = text;
}

// -- what the keys and buttons do -----------------------------------------------------------------

function draft(polygon) {
  boxes.showDraft(polygon);
  list.startDraft(polygon, model.before(polygon));
}

function dropDraft() {
  const after = list.draft.after;
  boxes.showDraft(null);
  list.endDraft();
  if (after) list.open(after, "end");
}

function go(id) {
  if (id === undefined) list.commit();
  else list.open(id, "end");
}

/** Changes of the whole line wait for its text, which goes first. */
function withLine(change) {
  const id = list.active ?? boxes.active;
  if (!id || !model.line(id) || model.status === "accepted") return;
  list.commit();
  change(id);
}

const acts = {
  next() {
    const id = list.active;
    if (changes.list.states.get(id)?.state === "conflict") changes.resolve(id, true);
    list.commit();
    if (list.active === id) go(model.beside(id, 1));
  },
  previous: () => { list.commit(); go(model.beside(list.active, -1)); },
  step: (key) => go(model.beside(list.active, key === "ArrowDown" ? 1 : -1)),
  low(key) {
    const id = model.lowFrom(list.active, key === "Tab" || key === "n" ? 1 : -1, limit());
    if (id === undefined) return false; // Nothing left: Tab goes on to the next control.
    go(id);
    return true;
  },
  edit: () => go(list.active ?? model.order[0]),
  leave() {
    boxes.setDrawing(false);
    if (list.states.get(list.active)?.state === "conflict") changes.resolve(list.active, false);
    else if (!list.revert()) boxes.scroll.focus({ preventScroll: true });
  },
  undo() {
    if (list.dirty) return false; // The browser takes the typing back.
    changes.undo();
    return true;
  },
  merge: () => withLine((id) => {
    const other = model.beside(id, 1);
    if (other) changes.merge(id, other);
  }),
  split: () => withLine((id) => {
    const text = list.text;
    const lead = text.length - text.trimStart().length;
    // The server counts characters, a field counts halves of those beyond U+FFFF.
    changes.split(id, [...text.slice(lead, list.field.selectionStart)].length);
  }),
  remove: () => withLine((id) => changes.remove(id)),
  add: () => {
    if (model.status !== "accepted") boxes.setDrawing(!boxes.drawing);
    boxes.scroll.focus({ preventScroll: true });
  },
  reorder: (key) => withLine((id) => changes.reorder(id, key === "Alt+ArrowDown" ? 1 : -1)),
  accept() {
    if (model.status === "accepted") return;
    list.commit();
    const page = model;
    changes.decide("accept", () => ({ version: page.version }), () => next());
  },
  flag() {
    if (model.status !== "open") return;
    list.commit();
    at("flag-note").value = "";
    at("flag-dialog").showModal();
  },
  skip() {
    list.commit();
    const skipped = [...passed(), model.id].slice(-500);
    sessionStorage.setItem("review.skipped", JSON.stringify(skipped));
    changes.decide("release", undefined, () => {});
    next();
  },
  reopen: () => changes.decide("reopen", () => ({}), () => say("")),
  zoom: (key) => boxes.setZoom(boxes.scale * (key.endsWith("+") ? 1.25 : 0.8)),
  size: (key) => boxes.setZoom(key === "0" ? "fit" : 1),
  heat() {
    at("show-heat").checked = !at("show-heat").checked;
    showHeat();
  },
  help: () => at("help").showModal(),
};

const passed = () => JSON.parse(sessionStorage.getItem("review.skipped") ?? "[]");

async function next() {
  try {
    const { review } = await api.call("POST", "next", { ...config.queue, skip: passed() });
    if (!review) {
      at("done").hidden = false;
      at("done").querySelector("a").focus();
      return;
    }
    history.pushState(review.id, "", config.page.replace("/0/", `/${review.id}/`) + location.search);
    load(review, true);
  } catch (error) {
    if (!(error instanceof Unreachable || error instanceof Refused)) throw error;
    say(`The next page can't be fetched: ${error.message}`, "bad");
  }
}

// -- listening ------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || !at("done").hidden) return;
  const inText = event.target === list.field;
  if (!inText && event.target.closest("input, textarea, select")) return;
  if (boxes.drawing && event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    below();
    return;
  }
  const found = meaning(event, inText);
  // A button that has the focus is pressed by Enter.
  if (!found || (found.act === "edit" && event.target.closest("button, a"))) return;
  if (acts[found.act](found.key) !== false) event.preventDefault();
});

/** A box without the mouse: as large as the active one, right below it. */
function below() {
  boxes.setDrawing(false);
  const id = list.active ?? boxes.active ?? model.order.at(-1);
  const { left, right, low, height } = id
    ? bounds(model.line(id).polygon) : { left: 0, right: model.width / 2, low: 0, height: 40 };
  const top = Math.min(low + height * 0.2, model.height - height);
  const polygon = rectangle(left, top, right, top + height);
  boxes.showDraft(polygon);
  list.startDraft(polygon, id ?? null);
}

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) acts[button.dataset.act](button.dataset.key);
});
// A click on a button must not count as leaving the line for good.
root.addEventListener("pointerdown", (event) => {
  if (event.target.closest("[data-act], [data-resolve]")) event.preventDefault();
});
at("notice-close").addEventListener("click", () => say(""));
at("flag-dialog").addEventListener("close", () => {
  if (at("flag-dialog").returnValue !== "flag") return;
  const note = at("flag-note").value;
  changes.decide("flag", () => ({ note }), () => next());
});
at("flag-note").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) at("flag-dialog").close("flag");
});

function showHeat() {
  root.classList.toggle("heat-off", !at("show-heat").checked);
}
at("show-heat").addEventListener("change", showHeat);
threshold.addEventListener("input", () => {
  localStorage.setItem("review.threshold", threshold.value);
  redraw();
  showStanding();
});

async function lookAtOthers() {
  if (document.hidden || !changes.queue.idle || !at("done").hidden) return;
  const page = model;
  try {
    const etag = `"${page.version}-${page.version}"`;
    const path = `${page.id}/?since=${page.version}`;
    const delta = await api.call("GET", path, undefined, { "If-None-Match": etag });
    if (delta && page === model && changes.queue.idle) changes.take(delta);
    if (last && Date.now() - last > CLAIM_MS) {
      last = Date.now();
      await api.call("POST", `${page.id}/open`);
    }
  } catch (error) {
    if (!(error instanceof Unreachable || error instanceof Refused)) throw error;
    // Nothing is lost by not knowing; the next change finds out.
  }
}
setInterval(lookAtOthers, LOOK_MS);
document.addEventListener("visibilitychange", lookAtOthers);
addEventListener("beforeunload", (event) => {
  list.commit();
  if (!changes.queue.idle) event.preventDefault();
});
addEventListener("popstate", () => location.reload());

describe(at("help-keys"));
load(given("review-state"), false);
