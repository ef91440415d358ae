// Search in documents: asks the API, shows passages with their part of the page, streams answers.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const config = JSON.parse(document.getElementById("search-config").textContent);
  const form = document.getElementById("search-form");
  const hits = document.getElementById("search-hits");
  const note = document.getElementById("search-note");
  const empty = document.getElementById("search-empty");
  const answer = document.getElementById("search-answer");
  const answerText = document.getElementById("answer-text");
  const hitTemplate = document.getElementById("search-hit");
  const SVG = "http://www.w3.org/2000/svg";
  let asking = new AbortController();

  const MODES = { lexical: "words", vector: "meaning", hybrid: "words and meaning" };

  async function post(url, body, signal) {
    const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token },
      body: JSON.stringify(body),
      signal,
    });
    if (!response.ok) {
      const fault = await response.json().catch(() => null);
      throw new Error(fault?.error?.message ?? `The server answered ${response.status}.`);
    }
    return response;
  }

  function say(text, tone = "") {
    note.textContent = text ?? "";
    note.dataset.tone = tone;
    note.hidden = !text;
  }

  // -- passages ---------------------------------------------------------------------------------

  // Marks count code points, as Python does, and not the halves of JavaScript.
  function marked(text, marks) {
    const points = Array.from(text);
    const parts = [];
    let at = 0;
    for (const [start, end] of marks) {
      parts.push(points.slice(at, start).join(""));
      const mark = document.createElement("mark");
      mark.textContent = points.slice(start, end).join("");
      parts.push(mark);
      at = end;
    }
    parts.push(points.slice(at).join(""));
    return parts;
  }

  // The boxes of the lines that hold a word asked for; the passage's where it was found by meaning.
  function markedBoxes(hit) {
    const ends = hit.lines.map((line, n) => hit.lines[n + 1]?.start ?? Infinity);
    const found = hit.lines.filter((line, n) =>
      hit.marks.some(([start, end]) => start < ends[n] && end > line.start));
    return found.length ? found.map((line) => line.box) : [hit.box];
  }

  function crop(hit) {
    const boxes = markedBoxes(hit);
    const [left, , right] = hit.box;
    const width = Math.min(hit.width, Math.max(right - left + 40, hit.width / 3));
    const x = Math.max(0, Math.min(left - 20, hit.width - width));
    const first = boxes[0][1] - 24;
    const last = Math.max(...boxes.map((box) => box[3])) + 24;
    // No taller than can be read at this width, and with something of what stands around.
    const height = Math.min(hit.height, Math.max(width * 0.3, Math.min(last - first, width * 0.6)));
    const spare = Math.max(0, height - (last - first)) / 2;
    const top = Math.max(0, Math.min(first - spare, hit.height - height));
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `${x} ${top} ${width} ${height}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `Part of page ${hit.page} of ${hit.document.name}`);
    const image = document.createElementNS(SVG, "image");
    image.setAttribute("href", `${hit.image}&max_side=1800`);
    image.setAttribute("width", hit.width);
    image.setAttribute("height", hit.height);
    image.setAttribute("preserveAspectRatio", "none");
    svg.append(image);
    for (const box of boxes) {
      const rect = document.createElementNS(SVG, "rect");
      const size = { x: box[0] - 3, y: box[1] - 3, width: box[2] - box[0] + 6, height: box[3] - box[1] + 6 };
      for (const [name, value] of Object.entries(size)) rect.setAttribute(name, value);
      svg.append(rect);
    }
    return svg;
  }

  function show(found, mode, numbered) {
    hits.replaceChildren(...found.map((hit, n) => {
      const item = hitTemplate.content.firstElementChild.cloneNode(true);
      item.id = `passage-${n + 1}`;
      for (const link of item.querySelectorAll("[data-viewer]")) {
        link.href = config.viewer.replace(config.job, hit.job).replace("/0/", `/${hit.page}/`);
      }
      item.querySelector(".search-crop").append(crop(hit));
      if (numbered) item.querySelector(".search-number").textContent = `[${n + 1}]`;
      item.querySelector("[data-name]").textContent = hit.document.name;
      item.querySelector("[data-page]").textContent = `page ${hit.page}`;
      // Of two rankings made one it would tell nobody anything.
      const score = mode === "hybrid" ? "" : hit.score.toFixed(mode === "vector" ? 2 : 1);
      item.querySelector("[data-score]").textContent = score;
      const heading = item.querySelector("[data-heading]");
      heading.textContent = hit.heading ?? "";
      heading.hidden = !hit.heading;
      item.querySelector("[data-text]").append(...marked(hit.text, hit.marks));
      return item;
    }));
    empty.hidden = found.length > 0;
    document.getElementById("search-empty-text").textContent = "Nothing was found.";
  }

  function sayHow(how, count) {
    const passages = count === 1 ? "1 passage" : `${count} passages`;
    say(`${passages} found by ${MODES[how.mode]}. ${how.note ?? ""}`.trim());
  }

  // -- answers ----------------------------------------------------------------------------------

  function cited(text) {
    return text.split(/(\[\d+\])/).map((part) => {
      const number = /^\[(\d+)\]$/.exec(part)?.[1];
      if (!number) return part;
      const link = document.createElement("a");
      link.className = "search-cite";
      link.href = `#passage-${number}`;
      link.textContent = number;
      return link;
    });
  }

  function write(text, writing) {
    answer.hidden = false;
    answer.toggleAttribute("data-writing", writing);
    answerText.replaceChildren(...cited(text));
  }

  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const whole = text.split("\n\n");
      text = whole.pop();
      for (const event of whole) {
        if (event.startsWith("data: ") && event !== "data: [DONE]") yield JSON.parse(event.slice(6));
      }
    }
  }

  async function ask(asked, signal) {
    let said = "";
    document.getElementById("answer-model").textContent = asked.model;
    say("Looking for passages …");
    const body = { question: asked.q, model: asked.model, mode: asked.mode, stream: true };
    const response = await post(config.answers, body, signal);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      if (event.object === "answer.passages") {
        show(event.passages, event.search.mode, true);
        sayHow(event.search, event.passages.length);
        write("", true);
      } else if (event.object === "answer.delta") {
        said += event.text;
        write(said, true);
      } else {
        if (!event.passages.length) {
          show([], event.search.mode, true);
          sayHow(event.search, 0);
        }
        write(event.answer, false);
        for (const one of event.citations) {
          document.getElementById(`passage-${one.number}`).classList.add("is-cited");
        }
      }
    }
  }

  async function search(asked, signal) {
    say("Searching …");
    const response = await post(config.search, { query: asked.q, mode: asked.mode }, signal);
    const found = await response.json();
    show(found.hits, found.mode, false);
    sayHow(found, found.hits.length);
  }

  async function go() {
    const data = new FormData(form);
    const asked = { q: data.get("q").trim(), mode: data.get("mode"), model: data.get("model") };
    if (!asked.q) return;
    asking.abort();
    asking = new AbortController();
    answer.hidden = true;
    answer.removeAttribute("data-writing");
    history.replaceState(null, "", `?${new URLSearchParams(asked)}`);
    try {
      await (asked.model ? ask(asked, asking.signal) : search(asked, asking.signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      answer.removeAttribute("data-writing");
      say(error.message, "bad");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go();
  });
  document.getElementById("search-index").addEventListener("click", async (event) => {
    event.currentTarget.disabled = true;
    try {
      const made = await (await post(config.index, {})).json();
      say(`${made.documents} document${made.documents === 1 ? "" : "s"} will be indexed by a worker.`);
    } catch (error) {
      say(error.message, "bad");
    }
  });

  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements[name];
    if (field && name !== "csrfmiddlewaretoken") field.value = value;
  }
  go();
});
