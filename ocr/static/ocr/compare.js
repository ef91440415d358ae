// Two readings side by side: ties each row to its boxes on the page.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const viewer = document.getElementById("viewer");
  const only = document.getElementById("only-different");
  if (!only) return;
  const panes = { tr: document.getElementById("row-scroll"), polygon: document.getElementById("page-scroll") };

  function reveal(pane, element) {
    const [outer, inner] = [pane.getBoundingClientRect(), element.getBoundingClientRect()];
    if (inner.top < outer.top + 40 || inner.bottom > outer.bottom) {
      pane.scrollTop += (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
    }
  }

  function activate(row) {
    for (const one of viewer.querySelectorAll(".is-active")) one.classList.remove("is-active");
    for (const one of viewer.querySelectorAll(`[data-row="${row}"]`)) one.classList.add("is-active");
  }

  for (const element of viewer.querySelectorAll("tr[data-row], polygon[data-row]")) {
    const other = element.matches("tr") ? "polygon" : "tr";
    element.addEventListener("pointerenter", () => activate(element.dataset.row));
    element.addEventListener("click", () => {
      const target = viewer.querySelector(`${other}[data-row="${element.dataset.row}"]`);
      if (target) reveal(panes[other], target);
    });
  }
  only.addEventListener("change", () => viewer.classList.toggle("only-different", only.checked));
  viewer.classList.toggle("only-different", only.checked);

  const first = viewer.querySelector("tr[data-differs]");
  if (first) activate(first.dataset.row);
});
