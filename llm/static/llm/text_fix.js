// A page's text beside what a model would have in its place: ties each line to its box.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const viewer = document.getElementById("viewer");
  const only = document.getElementById("only-changed");
  const panes = { li: document.getElementById("line-scroll"), polygon: document.getElementById("page-scroll") };

  function reveal(pane, element) {
    const [outer, inner] = [pane.getBoundingClientRect(), element.getBoundingClientRect()];
    if (inner.top < outer.top || inner.bottom > outer.bottom) {
      pane.scrollTop += (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
    }
  }

  function activate(line) {
    for (const one of viewer.querySelectorAll(".is-active")) one.classList.remove("is-active");
    for (const one of viewer.querySelectorAll(`[data-line="${line}"]`)) one.classList.add("is-active");
  }

  for (const element of viewer.querySelectorAll("li[data-line], polygon[data-line]")) {
    const other = element.matches("li") ? "polygon" : "li";
    element.addEventListener("pointerenter", () => activate(element.dataset.line));
    element.addEventListener("click", (event) => {
      if (event.target.matches("input")) return;
      reveal(panes[other], viewer.querySelector(`${other}[data-line="${element.dataset.line}"]`));
    });
  }
  only.addEventListener("change", () => viewer.classList.toggle("only-changed", only.checked));
  viewer.classList.toggle("only-changed", only.checked);
});
