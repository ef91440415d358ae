// The page viewer: ties each line of text to its box, zooms the page, and turns pages.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const viewer = document.getElementById("viewer");
  const stage = document.getElementById("stage");
  const image = document.getElementById("page-image");
  const pageScroll = document.getElementById("page-scroll");
  const lineScroll = document.getElementById("line-scroll");
  const lines = [...document.querySelectorAll("#lines button[data-line]")];
  const boxes = [...stage.querySelectorAll("polygon[data-line]")];
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
  let active = null;
  let pinned = null;

  // -- a line and its box -----------------------------------------------------------------------

  function mark(index, name, on) {
    if (index === null) return;
    lines[index].classList.toggle(name, on);
    boxes[index].classList.toggle(name, on);
  }

  // What the pointer or the keyboard is on; without either, what is pinned.
  function activate(index) {
    mark(active, "is-active", false);
    active = index ?? pinned;
    mark(active, "is-active", true);
  }

  function pin(index) {
    if (pinned !== null) {
      mark(pinned, "is-pinned", false);
      lines[pinned].setAttribute("aria-pressed", "false");
    }
    pinned = pinned === index ? null : index;
    if (pinned !== null) {
      mark(pinned, "is-pinned", true);
      lines[pinned].setAttribute("aria-pressed", "true");
    }
    activate(index);
  }

  // Scrolls `pane` alone, and only if the element isn't in sight already.
  function reveal(pane, element) {
    const outer = pane.getBoundingClientRect();
    const inner = element.getBoundingClientRect();
    if (inner.top < outer.top || inner.bottom > outer.bottom) {
      const middle = (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
      pane.scrollBy({ top: middle, behavior });
    }
    if (inner.left < outer.left || inner.right > outer.right) {
      pane.scrollBy({ left: inner.left - outer.left - 24, behavior });
    }
  }

  const indexOf = (event) => Number(event.currentTarget.dataset.line);
  for (const line of lines) {
    line.addEventListener("pointerenter", (event) => activate(indexOf(event)));
    line.addEventListener("pointerleave", () => activate(null));
    line.addEventListener("focus", (event) => activate(indexOf(event)));
    line.addEventListener("blur", () => activate(null));
    line.addEventListener("click", (event) => {
      // Somebody who marks text with the mouse wants the text.
      if (String(getSelection())) return;
      pin(indexOf(event));
      reveal(pageScroll, boxes[indexOf(event)]);
    });
  }
  for (const box of boxes) {
    box.addEventListener("pointerenter", (event) => {
      activate(indexOf(event));
      reveal(lineScroll, lines[indexOf(event)]);
    });
    box.addEventListener("pointerleave", () => activate(null));
    box.addEventListener("click", (event) => {
      pin(indexOf(event));
      reveal(lineScroll, lines[indexOf(event)]);
    });
  }

  // -- what is shown, kept from page to page ----------------------------------------------------

  function keep(name, value) {
    sessionStorage.setItem(`viewer.${name}`, value);
  }
  const kept = (name) => sessionStorage.getItem(`viewer.${name}`);

  const onlyLow = document.getElementById("only-low");
  const showBoxes = document.getElementById("show-boxes");
  function filter() {
    viewer.classList.toggle("only-low", onlyLow.checked);
    viewer.classList.toggle("boxes-off", !showBoxes.checked);
    const none = document.getElementById("no-low");
    if (none) none.hidden = !(onlyLow.checked && "none" in onlyLow.dataset);
  }
  onlyLow.checked = kept("only-low") === "true";
  showBoxes.checked = kept("boxes") !== "false";
  onlyLow.addEventListener("change", () => { keep("only-low", onlyLow.checked); filter(); });
  showBoxes.addEventListener("change", () => { keep("boxes", showBoxes.checked); filter(); });
  filter();

  // -- zoom -------------------------------------------------------------------------------------

  let zoom = kept("zoom") ?? "fit"; // "fit", or a share of the page's own pixels
  const width = () => Number(stage.dataset.width) || image.naturalWidth || 1000;
  const scale = () => stage.getBoundingClientRect().width / width();

  function show() {
    stage.style.width = zoom === "fit" ? "" : `${Math.round(width() * zoom)}px`;
    document.getElementById("zoom-level").textContent = `${Math.round(scale() * 100)} %`;
    for (const button of document.querySelectorAll("[data-zoom][aria-pressed]")) {
      const mine = button.dataset.zoom === "fit" ? zoom === "fit" : Number(zoom) === 1;
      button.setAttribute("aria-pressed", String(mine));
    }
  }

  // The point of the page under (x, y) of the window stays where it is.
  function setZoom(value, x, y) {
    const before = stage.getBoundingClientRect();
    zoom = value === "fit" ? "fit" : Math.min(6, Math.max(0.1, value));
    keep("zoom", zoom);
    show();
    if (x === undefined) return;
    const after = stage.getBoundingClientRect();
    const factor = after.width / before.width;
    pageScroll.scrollBy({
      left: after.left + (x - before.left) * factor - x,
      top: after.top + (y - before.top) * factor - y,
      behavior: "instant",
    });
  }

  const zooms = { fit: () => "fit", 100: () => 1, in: () => scale() * 1.25, out: () => scale() / 1.25 };
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => setZoom(zooms[button.dataset.zoom]()));
  }
  pageScroll.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    setZoom(scale() * Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
  }, { passive: false });
  image.addEventListener("load", show);
  new ResizeObserver(show).observe(pageScroll);
  show();

  // -- keys -------------------------------------------------------------------------------------

  function step(from, by) {
    const visible = lines.filter((line) => line.offsetParent);
    const next = visible[visible.indexOf(from) + by];
    if (!next) return;
    next.focus({ preventScroll: true });
    reveal(lineScroll, next);
    reveal(pageScroll, boxes[Number(next.dataset.line)]);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    const line = event.target.closest("#lines button");
    if (event.key === "ArrowLeft" && viewer.dataset.previous) {
      location.assign(viewer.dataset.previous);
    } else if (event.key === "ArrowRight" && viewer.dataset.next) {
      location.assign(viewer.dataset.next);
    } else if (event.key === "Escape" && pinned !== null) {
      pin(pinned);
      activate(null);
    } else if (line && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      step(line, event.key === "ArrowDown" ? 1 : -1);
    }
  });
});
