// Keeps the cells of unfinished jobs up to date, and copies what a copy button names.
"use strict";
(() => {
  const INTERVAL = 2000;

  function unfinished() {
    const sources = new Map();
    for (const cell of document.querySelectorAll(".live-cell[data-source]")) {
      const { source, job } = cell.dataset;
      if (!sources.has(source)) sources.set(source, new Set());
      sources.get(source).add(job);
    }
    return sources;
  }

  function show(cells) {
    for (const [job, names] of Object.entries(cells)) {
      for (const [name, html] of Object.entries(names)) {
        const selector = `.live-cell[data-job="${job}"][data-cell="${name}"]`;
        for (const old of document.querySelectorAll(selector)) {
          if (old.outerHTML !== html) old.outerHTML = html;
        }
      }
    }
  }

  async function follow() {
    if (!document.hidden) {
      for (const [source, jobs] of unfinished()) {
        const ids = [...jobs].slice(0, 200).join(",");
        try {
          const answer = await fetch(`${source}?ids=${ids}`, { headers: { Accept: "application/json" } });
          // A session that has ended answers with the login page.
          if (!answer.ok || answer.redirected) return;
          show((await answer.json()).cells);
        } catch {
          // The server is away: the next round asks again.
        }
      }
      const ended = document.querySelector("[data-reload-when-ended]");
      if (ended && !document.querySelector(`.live-cell[data-source][data-job="${ended.dataset.reloadWhenEnded}"]`)) {
        location.reload();
        return;
      }
    }
    if (unfinished().size) setTimeout(follow, INTERVAL);
  }

  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // Browsers offer the clipboard only over https and on localhost.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-from]");
    if (!button) return;
    const from = button.dataset.copyFrom;
    await copy(from ? document.querySelector(from).textContent : button.dataset.copy);
    const label = button.querySelector("[data-copy-label]") ?? button;
    const before = (button.dataset.copyBefore ??= label.textContent);
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = before; }, 1500);
  });

  document.addEventListener("DOMContentLoaded", () => {
    if (unfinished().size) setTimeout(follow, INTERVAL / 2);
  });
})();
