// The page of an extraction: values beside the page's image, their boxes, and the keys.

import { Api, Refused, Unreachable } from "../ocr/review_api.js";
import { Boxes } from "../ocr/review_boxes.js";

const at = (id) => document.getElementById(id);
const given = (id) => JSON.parse(at(id).textContent);
const root = at("review");
const config = given("extraction-config");
const api = new Api(config.api, root.dataset.csrf);

let state = given("extraction-state");
let page = null; // The number of the page that is shown.
let active = null; // The pointer of the value that the keyboard is on.
let editing = false;
let busy = false;

const boxes = new Boxes(root, { select: (id) => focus(id.split("#")[0]), change() {}, draw() {} });
boxes.editable = false; // Boxes follow the values here; they are not drawn.

// A receipt is shown whole, a larger page at no less than this share of its pixels.
const LEAST = 0.6;

/** To fit is to fit the height, too. */
function setZoom(value) {
  const { width, height } = boxes.model ?? {};
  const whole = width ? Math.max((boxes.scroll.clientHeight * width) / height, LEAST * width) : 0;
  boxes.stage.style.maxWidth = value === "fit" && whole ? `${Math.floor(whole)}px` : "";
  boxes.setZoom(value);
}

// -- values ---------------------------------------------------------------------------------------

const parts = (path) => path.split("/").slice(1).map((one) => one.replaceAll("~1", "/").replaceAll("~0", "~"));
const read = (values, path) => parts(path).reduce((inside, part) => inside?.[part], values);
const shown = (value) => (value === null || value === undefined ? "" : String(value));
const fieldOf = (path) => state.fields.find((field) => field.path === path);
const problemOf = (path) => state.problems.find((one) => one.path === path);

/** What the page says of a value: corrected, exact, normalised, fuzzy, missing or unplaced. */
function standing(path) {
  const value = read(state.values, path);
  const before = read(state.extracted, path);
  if (JSON.stringify(value ?? null) !== JSON.stringify(before ?? null)) return "corrected";
  if (value === null || value === undefined || value === "") return "missing";
  return state.evidence[path]?.match ?? "unplaced";
}

const SAID = {
  corrected: ["edit", "Corrected by hand"],
  exact: ["check", "Stands so on the page"],
  normalised: ["check", "Stands on the page, written differently"],
  fuzzy: ["help", "Something like it stands on the page"],
  unplaced: ["search_off", "Not found on the page"],
  missing: ["remove", "No value"],
};

// -- the list -------------------------------------------------------------------------------------

function draw() {
  const list = at("fields");
  const rows = [];
  let group = "";
  for (const field of state.fields) {
    if (field.group !== group) {
      group = field.group;
      if (group) rows.push(made("li", "field-group", group));
    }
    rows.push(row(field));
  }
  list.replaceChildren(...rows);
  showStanding();
  drawBoxes();
  activate(active);
}

function made(tag, name, text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

function row(field) {
  const item = made("li", "field");
  const how = standing(field.path);
  item.dataset.path = field.path;
  item.dataset.how = how;
  const button = made("button", "field-button");
  button.type = "button";
  const name = made("span", "field-name", field.name);
  name.title = field.description;
  const text = shown(read(state.values, field.path));
  const value = made("span", "field-value", text || "–");
  value.dir = "auto";
  const icon = made("span", "material-symbols-outlined field-how", SAID[how][0]);
  icon.setAttribute("aria-hidden", "true");
  const said = made("span", "sr", SAID[how][1]);
  icon.title = SAID[how][1];
  button.append(name, value, icon, said);
  const place = state.evidence[field.path];
  if (place && state.pages.length > 1) button.append(made("span", "field-page", `p. ${place.page}`));
  item.append(button);
  const problem = problemOf(field.path);
  if (problem) item.append(made("p", "field-problem", problem.message));
  if (how === "corrected") {
    const before = shown(read(state.extracted, field.path));
    item.append(made("p", "field-before", `was: ${before || "nothing"}`));
  }
  button.addEventListener("pointerenter", () => { if (!editing) activate(field.path, true); });
  button.addEventListener("pointerleave", () => { if (!editing) activate(active); });
  button.addEventListener("focus", () => { active = field.path; activate(active); });
  button.addEventListener("click", () => { focus(field.path); });
  button.addEventListener("dblclick", () => { edit(field.path); });
  return item;
}

const rowOf = (path) => at("fields").querySelector(`[data-path="${CSS.escape(path ?? "")}"]`);

function focus(path) {
  if (editing) return;
  const button = rowOf(path)?.querySelector("button");
  button?.focus({ preventScroll: true });
  button?.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const paths = state.fields.map((field) => field.path);
  const index = paths.indexOf(active);
  const next = paths[index < 0 ? 0 : Math.min(Math.max(index + by, 0), paths.length - 1)];
  if (next !== undefined) focus(next);
}

// -- the page -------------------------------------------------------------------------------------

/** The boxes of the page that is shown, one a line of each value, named "/total#0". */
function drawBoxes() {
  if (!state.pages.length) return;
  page ??= state.evidence[active]?.page ?? firstPage();
  const size = state.pages.find((one) => one.number === page) ?? state.pages[0];
  const places = new Map();
  for (const [path, place] of Object.entries(state.evidence)) {
    if (place.page !== page || !fieldOf(path)) continue;
    place.polygons.forEach((polygon, n) => places.set(`${path}#${n}`, { id: `${path}#${n}`, polygon }));
  }
  const model = {
    ...size, page, document: { name: state.document }, order: [...places.keys()],
    line: (id) => places.get(id),
  };
  const turned = boxes.model?.page !== page;
  if (turned) boxes.load(model, config.image.replace("/0/", `/${page}/`));
  boxes.model = model;
  if (turned) setZoom(boxes.zoom);
  boxes.draw(
    (line) => (standing(line.id.split("#")[0]) === "fuzzy" ? 60 : 260),
    (line) => standing(line.id.split("#")[0]),
  );
  at("page-number").textContent = `Page ${page} of ${state.pages.length}`;
  at("page-number").hidden = at("turn").hidden = state.pages.length < 2;
}

function firstPage() {
  const pages = Object.values(state.evidence).map((place) => place.page);
  return pages.length ? Math.min(...pages) : state.pages[0].number;
}

function turn(by) {
  const numbers = state.pages.map((one) => one.number);
  const next = numbers[numbers.indexOf(page) + by];
  if (next === undefined) return;
  page = next;
  drawBoxes();
}

/** Lights a value's boxes up and brings them into sight; `hover` leaves the keyboard where it is. */
function activate(path, hover = false) {
  for (const item of at("fields").querySelectorAll(".is-active")) item.classList.remove("is-active");
  for (const shape of boxes.shapes.values()) shape.classList.remove("is-active");
  if (path === null || path === undefined) return;
  rowOf(path)?.classList.add("is-active");
  const place = state.evidence[path];
  if (!place) return;
  if (place.page !== page && !hover) {
    page = place.page;
    drawBoxes();
  }
  if (place.page !== page) return;
  for (const [id, shape] of boxes.shapes) {
    if (id.split("#")[0] === path) shape.classList.add("is-active");
  }
  boxes.reveal(`${path}#0`);
}

// -- editing --------------------------------------------------------------------------------------

function edit(path) {
  const field = fieldOf(path);
  if (!field || editing || busy || state.accepted_at || !state.values) return;
  editing = true;
  active = path;
  activate(path);
  const item = rowOf(path);
  const input = document.createElement(field.enum.length ? "select" : field.type === "text" && !field.date ? "textarea" : "input");
  if (field.enum.length) {
    const options = [...(field.nullable ? [""] : []), ...field.enum];
    input.append(...options.map((one) => new Option(one || "–", one)));
  } else if (input.rows) input.rows = 1;
  input.className = "field-input";
  input.setAttribute("aria-label", field.name);
  input.value = shown(read(state.values, path));
  if (field.type === "number") input.inputMode = "decimal";
  if (field.date) input.placeholder = "YYYY-MM-DD";
  item.classList.add("is-editing");
  item.querySelector("button").after(input);
  const fit = () => {
    input.style.height = "";
    if (input.tagName === "TEXTAREA") input.style.height = `${input.scrollHeight + 4}px`;
  };
  input.addEventListener("input", fit);
  input.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      leave(path);
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      event.stopPropagation();
      save(path, input.value, event.ctrlKey || event.metaKey ? accept : () => step(1));
    } else if (event.key === "Tab") {
      event.preventDefault();
      save(path, input.value, () => { step(event.shiftKey ? -1 : 1); edit(active); });
    }
  });
  input.addEventListener("blur", () => { if (editing && !busy) save(path, input.value, () => {}); });
  input.focus();
  input.select?.();
  fit();
}

function leave(path) {
  editing = false;
  draw();
  focus(path);
}

async function save(path, text, then) {
  if (text.trim() === shown(read(state.values, path))) {
    leave(path);
    then();
    return;
  }
  const answer = await send(`${state.id}/correct`, { version: state.version, path, value: text });
  if (!answer) {
    rowOf(path)?.querySelector(".field-input")?.focus();
    return;
  }
  take(answer);
  leave(path);
  then();
}

async function send(path, body) {
  if (busy) return null;
  busy = true;
  showSaving("saving");
  try {
    const answer = await api.call("POST", path, body);
    showSaving("saved");
    say("");
    return answer;
  } catch (error) {
    if (error instanceof Refused) {
      showSaving("refused");
      say(error.message, "bad");
      // Somebody was there first: what they made of it is shown, and the change may be made again.
      if (error.status === 409) await reload();
    } else if (error instanceof Unreachable) {
      showSaving("offline");
      say("The server can't be reached. Try again in a moment.", "bad");
    } else throw error;
    return null;
  } finally {
    busy = false;
  }
}

function take(answer) {
  for (const name of ["values", "extracted", "evidence", "problems", "version", "accepted_at", "reviewer", "status"]) {
    state[name] = answer[name];
  }
}

async function reload() {
  take(await api.call("GET", `${state.id}/`));
  editing = false;
  draw();
}

// -- the head -------------------------------------------------------------------------------------

function showStanding() {
  const accepted = Boolean(state.accepted_at);
  const label = at("page-status");
  label.textContent = accepted ? "accepted" : state.values ? "to review" : state.status;
  label.dataset.status = accepted ? "accepted" : state.status === "failed" ? "flagged" : "open";
  at("accept").hidden = accepted || !state.values || !config.may_change;
  at("reopen").hidden = !accepted || !config.may_change;
  at("saving").hidden = !state.values;
  const found = state.fields.filter((field) => standing(field.path) !== "missing").length;
  at("field-count").textContent = `${found} of ${state.fields.length} values`;
  at("problem-count").textContent = state.problems.length;
  at("problems").hidden = !state.problems.length;
  at("problems").title = state.problems.map((one) => `${one.path} ${one.message}`).join("\n");
  const whole = problemOf("");
  at("standing").hidden = !(accepted || whole);
  at("standing").textContent = accepted ? `Accepted by ${state.reviewer}. Reopen to change a value.` : whole?.message;
}

function showSaving(how) {
  at("saving").dataset.state = how;
  at("saving-text").textContent = {
    saved: "All changes saved", saving: "Saving…", offline: "Not saved", refused: "Not saved",
  }[how];
}

function say(text, tone = "") {
  at("notice").hidden = !text;
  at("notice").dataset.tone = tone;
  at("notice-text").textContent = text;
}

// -- what the keys and buttons do -----------------------------------------------------------------

async function accept() {
  if (state.accepted_at || !state.values || !config.may_change) return;
  const answer = await send(`${state.id}/accept`, { version: state.version });
  if (!answer) return;
  take(answer);
  if (config.upcoming) location.assign(config.upcoming);
  else {
    draw();
    say("Nothing is left to review here.");
  }
}

const acts = {
  accept,
  async reopen() {
    const answer = await send(`${state.id}/reopen`, {});
    if (answer) take(answer);
    draw();
  },
  next: () => { if (config.next) location.assign(config.next); },
  previous: () => { if (config.previous) location.assign(config.previous); },
  down: () => step(1),
  up: () => step(-1),
  edit: () => { if (config.may_change) edit(active ?? state.fields[0]?.path); },
  turn: (key) => turn(key === "PageUp" || key === "-" ? -1 : 1),
  zoom: (key) => setZoom(boxes.scale * (key === "+" ? 1.25 : 0.8)),
  size: (key) => setZoom(key === "0" ? "fit" : 1),
  help: () => at("help").showModal(),
};

const KEYS = {
  n: "next", p: "previous", a: "accept", "Ctrl+Enter": "accept", r: "reopen", Enter: "edit",
  e: "edit", ArrowDown: "down", ArrowUp: "up", PageDown: "turn", PageUp: "turn", "+": "zoom",
  "-": "zoom", 0: "size", 1: "size", "?": "help",
};

document.addEventListener("keydown", (event) => {
  if (editing || document.querySelector("dialog[open]") || event.isComposing || event.altKey) return;
  const ctrl = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  // With Hangul on, `key` is no Latin letter: the key cap counts.
  const cap = /^Key([A-Z])$/.exec(event.code)?.[1].toLowerCase();
  const key = /^[a-z]$/i.test(event.key) || !cap ? event.key : cap;
  const act = KEYS[`${ctrl}${key.length === 1 ? key.toLowerCase() : key}`];
  if (!act) return;
  const onButton = event.target.closest("button:not(.field-button), a");
  if (act === "edit" && key === "Enter" && onButton) return;
  event.preventDefault();
  acts[act](key);
});

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) acts[button.dataset.act](button.dataset.key);
});
root.addEventListener("pointerdown", (event) => {
  if (event.target.closest("[data-act]")) event.preventDefault();
});
at("notice-close").addEventListener("click", () => say(""));
addEventListener("resize", () => { if (boxes.zoom === "fit") setZoom("fit"); });
// With Ctrl the wheel zooms, beyond what fits.
boxes.scroll.addEventListener("wheel", () => {
  if (boxes.zoom !== "fit") boxes.stage.style.maxWidth = "";
}, { passive: true });

async function follow() {
  if (state.finished) return;
  try {
    const now = await api.call("GET", `${state.id}/`);
    if (["succeeded", "failed", "cancelled"].includes(now.status)) location.reload();
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
  }
  setTimeout(follow, 1500);
}

draw();
showSaving("saved");
if (state.values) focus(state.fields[0]?.path);
follow();
