// The form "New training": a dry run is made and its report shown without leaving the form.
"use strict";
(() => {
  const INTERVAL = 700;
  const form = document.getElementById("training-form");
  const button = document.getElementById("dry-run");
  const state = document.getElementById("dry-run-state");
  const report = document.getElementById("dry-run-report");
  let round = 0;

  // What is written already goes along to the form of another method.
  for (const link of document.querySelectorAll("[data-method]")) {
    link.addEventListener("click", () => {
      const address = new URL(link.href);
      for (const name of ["name", "base"]) {
        const value = form.elements[name]?.value;
        if (value) address.searchParams.set(name, value);
      }
      link.href = address.href;
    });
  }

  form.addEventListener("input", (event) => {
    event.target.closest("[data-field]")?.querySelector(":scope > .field-errors")?.remove();
  });

  function clear() {
    for (const said of form.querySelectorAll(".field-errors")) said.remove();
  }

  function complain(errors) {
    let first = null;
    for (const [name, said] of Object.entries(errors)) {
      const place = form.querySelector(`[data-field="${CSS.escape(name)}"]`);
      const text = Object.assign(document.createElement("p"), { className: "field-errors", textContent: said.join(" ") });
      text.setAttribute("role", "alert");
      (place ?? form).append(text);
      place?.closest("details")?.setAttribute("open", "");
      first ??= text;
    }
    first?.scrollIntoView({ block: "center", behavior: "smooth" });
    state.textContent = "Something is to be mended first.";
  }

  async function wait(address, mine) {
    while (mine === round) {
      const answer = await fetch(address, { headers: { Accept: "text/html" } });
      if (answer.status === 200) return answer.text();
      if (answer.status !== 202) throw new Error(String(answer.status));
      const now = await answer.json();
      state.textContent = now.phase;
      await new Promise((done) => { setTimeout(done, INTERVAL); });
    }
    return null;
  }

  async function run() {
    round += 1;
    const mine = round;
    clear();
    button.disabled = true;
    report.replaceChildren();
    state.textContent = "The dry run is being started.";
    try {
      const answer = await fetch(form.dataset.dryRun, { method: "POST", body: new FormData(form) });
      if (answer.status === 400) {
        complain((await answer.json()).errors);
        return;
      }
      if (answer.status !== 202) throw new Error(String(answer.status));
      const html = await wait((await answer.json()).report, mine);
      if (html === null) return;
      report.innerHTML = html;
      state.textContent = "Done: the report is below.";
      report.scrollIntoView({ block: "start", behavior: "smooth" });
    } catch (error) {
      state.textContent = `The dry run could not be followed (${error.message}). It is in the list of trainings.`;
    } finally {
      button.disabled = false;
    }
  }

  button.addEventListener("click", (event) => {
    event.preventDefault();
    run();
  });
})();
