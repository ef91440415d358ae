// A training job's page, kept up to date while the job runs: its parts as the site renders them,
// and the curves from the points that came since.
"use strict";
(() => {
  const INTERVAL = 1500;
  const page = document.getElementById("training-job");
  const given = JSON.parse(document.getElementById("training-curves").textContent);
  const charts = [...page.querySelectorAll(".curve")].map((box) => new Curves.Chart(box));
  let points = given.points;
  let cursor = given.cursor;

  function draw(curves) {
    const seen = new Set(points.flatMap((point) => Object.keys(point.values)));
    for (const panel of page.querySelectorAll("[data-for]")) {
      const has = panel.dataset.for.split(" ").some((name) => seen.has(name));
      // A panel that is there from the start stays, with a word that nothing has come yet.
      if (has) panel.hidden = false;
      else if (points.length) panel.hidden = true;
    }
    for (const chart of charts) chart.show(points, curves.checkpoints, curves.total);
  }

  function replace(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const place = page.querySelector(`[data-part="${name}"]`);
      if (!place || place.dataset.shown === html) continue;
      // What is being pressed or read stays under the pointer.
      const scrolled = place.firstElementChild?.scrollTop ?? 0;
      place.innerHTML = html;
      place.dataset.shown = html;
      if (scrolled) place.firstElementChild.scrollTop = scrolled;
    }
  }

  async function follow() {
    if (!document.hidden) {
      try {
        const answer = await fetch(`${page.dataset.state}?after=${cursor}`, { headers: { Accept: "application/json" } });
        // A session that has ended answers with the login page.
        if (!answer.ok || answer.redirected) return;
        const state = await answer.json();
        points = Curves.merge(points, state.curves.points);
        cursor = state.curves.cursor;
        replace(state.parts);
        draw(state.curves);
        if (state.finished) {
          // The report of a dry run is no part that is sent again and again.
          if (state.dry_run) location.reload();
          return;
        }
      } catch {
        // The server is away: the next round asks again.
      }
    }
    setTimeout(follow, INTERVAL);
  }

  draw(given);
  if ("live" in page.dataset) setTimeout(follow, INTERVAL);
})();
