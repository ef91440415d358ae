// Which key does what, in one table: the keyboard obeys it, and the help shows it.

/**
 * `keys`: "Ctrl+Enter" and the like; Ctrl is Cmd on a Mac. `where`: "line" while a line's text is
 * being edited, "page" outside of any field, "both".
 */
export const KEYS = [
  ["Lines", [
    { keys: ["Enter"], where: "line", act: "next", help: "Save, and go to the next line" },
    { keys: ["Shift+Enter"], where: "line", act: "previous", help: "Save, and go to the line before" },
    { keys: ["ArrowDown", "ArrowUp"], where: "both", act: "step", help: "Next line, line before" },
    { keys: ["Tab", "Shift+Tab"], where: "line", act: "low", help: "Next or previous uncertain line" },
    { keys: ["n", "p"], where: "page", act: "low", help: "The same, outside of the text" },
    { keys: ["Enter"], where: "page", act: "edit", help: "Edit the line" },
    { keys: ["Escape"], where: "both", act: "leave", help: "Take back what was typed; again: leave the text" },
    { keys: ["Ctrl+z"], where: "both", act: "undo", help: "Undo the last change" },
  ]],
  ["Boxes", [
    { keys: ["Ctrl+m"], where: "both", act: "merge", help: "Merge with the next line" },
    { keys: ["Ctrl+s"], where: "line", act: "split", help: "Split at the cursor" },
    { keys: ["Delete"], where: "page", act: "remove", help: "Remove the line" },
    { keys: ["Alt+Delete"], where: "both", act: "remove", help: "The same; so does Enter in an emptied text" },
    { keys: ["a"], where: "page", act: "add", help: "Add a line: draw its box, then type" },
    { keys: ["Alt+a"], where: "both", act: "add", help: "The same; Enter in place of drawing puts it below" },
    { keys: ["Alt+ArrowDown", "Alt+ArrowUp"], where: "both", act: "reorder", help: "Move the line down or up in the reading order" },
  ]],
  ["Page", [
    { keys: ["Ctrl+Enter"], where: "both", act: "accept", help: "Accept the page, and open the next" },
    { keys: ["Alt+f"], where: "both", act: "flag", help: "Flag it for somebody else" },
    { keys: ["Alt+n"], where: "both", act: "skip", help: "Leave it for now, and open the next" },
    { keys: ["Alt+r"], where: "both", act: "reopen", help: "Reopen an accepted or flagged page" },
  ]],
  ["View", [
    { keys: ["+", "-"], where: "page", act: "zoom", help: "Larger, smaller; so does the wheel with Ctrl" },
    { keys: ["Alt++", "Alt+-"], where: "both", act: "zoom", help: "The same, also in a text" },
    { keys: ["0", "1"], where: "page", act: "size", help: "Fit the width, full size" },
    { keys: ["h"], where: "page", act: "heat", help: "Show or hide the confidence colours" },
    { keys: ["?"], where: "page", act: "help", help: "This list" },
    { keys: ["F1"], where: "both", act: "help", help: "The same, also in a text" },
  ]],
];

const TABLE = KEYS.flatMap(([, entries]) =>
  entries.flatMap((entry) => entry.keys.map((key) => ({ ...entry, key }))));

/** What the event asks for: {act, key}; undefined for what is left to the browser. */
export function meaning(event, inText) {
  // While an input method composes a syllable, Enter and arrows are its own.
  if (event.isComposing || event.keyCode === 229) return undefined;
  const pressed = chord(event);
  return TABLE.find(({ key, where }) =>
    pressed.includes(key) && (where === "both" || (where === "line") === inText));
}

// With Hangul or Cyrillic on, and with Alt on a Mac, `key` is no Latin letter: the key cap counts.
function chord(event) {
  const ctrl = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const alt = event.altKey ? "Alt+" : "";
  const named = event.key.length > 1;
  const shift = named && event.shiftKey ? "Shift+" : "";
  if (named) return [`${ctrl}${alt}${shift}${event.key}`];
  const cap = /^Key([A-Z])$/.exec(event.code)?.[1].toLowerCase();
  const signs = { Equal: "+", NumpadAdd: "+", Minus: "-", NumpadSubtract: "-" };
  const typed = /^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : event.key;
  const found = [typed, /^[a-z]$/.test(typed) ? null : cap, signs[event.code]];
  return found.filter(Boolean).map((key) => `${ctrl}${alt}${key}`);
}

const SIGNS = {
  ArrowDown: "↓", ArrowUp: "↑", Escape: "Esc", Delete: "Del", "-": "−",
};

/** Fills the help with the table. */
export function describe(parent) {
  for (const [title, entries] of KEYS) {
    const group = document.createElement("section");
    const head = document.createElement("h3");
    head.textContent = title;
    const list = document.createElement("dl");
    for (const { keys, help } of entries) {
      const [name, text] = [document.createElement("dt"), document.createElement("dd")];
      name.append(...keys.map(caps));
      text.textContent = help;
      list.append(name, text);
    }
    group.append(head, list);
    parent.append(group);
  }
}

function caps(chord) {
  const all = document.createElement("span");
  // "Alt++" is Alt and the plus sign.
  for (const part of chord.replace(/\+\+$/, "+plus").split(/(?<=.)\+(?=.)/)) {
    const cap = document.createElement("kbd");
    const name = part === "plus" ? "+" : SIGNS[part] ?? part;
    cap.textContent = name.length === 1 ? name.toUpperCase() : name;
    all.append(cap);
  }
  return all;
}
