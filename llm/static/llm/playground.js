// The playground: a conversation, kept in this page alone.
import { asCurl, asPython } from "./playground_code.js";
import { Refused, ask } from "./playground_stream.js";

const form = document.getElementById("playground");
if (form) start();

function start() {
  const fields = form.elements;
  const list = document.getElementById("messages");
  const template = document.getElementById("message-template");
  const [send, stop] = [document.getElementById("send"), document.getElementById("stop-answer")];
  const dialog = document.getElementById("code");
  // {role, content, item}: `item` is its place in the page.
  let messages = [];
  let running = null;
  let language = "curl";

  // -- the request --------------------------------------------------------------------------

  function number(name) {
    const text = fields[name].value.trim();
    return text === "" ? undefined : Number(text);
  }

  function format() {
    const type = fields.format.value;
    if (type === "text") return undefined;
    if (type === "json_object") return { type };
    return { type, json_schema: { name: "answer", schema: JSON.parse(fields.schema.value) } };
  }

  function body(draft) {
    const said = messages.filter(({ content }) => content);
    const asked = said.map(({ role, content }) => ({ role, content }));
    if (draft) asked.push({ role: "user", content: draft });
    const system = fields.system.value.trim();
    if (system) asked.unshift({ role: "system", content: system });
    const stops = fields.stop.value.split("\n").filter(Boolean);
    const options = {
      model: fields.model.value,
      messages: asked,
      temperature: number("temperature"),
      top_p: number("top_p"),
      max_tokens: number("max_tokens"),
      seed: number("seed"),
      stop: stops.length ? stops : undefined,
      response_format: format(),
      stream: true,
      stream_options: { include_usage: true },
    };
    return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  }

  // Whether the settings make a request; what is wrong with the schema stands beside it.
  function inOrder() {
    const fault = document.getElementById("schema-fault");
    fault.textContent = "";
    if (!form.reportValidity()) return false;
    try {
      format();
      return true;
    } catch (error) {
      fault.textContent = `This is no JSON: ${error.message}`;
      fields.schema.focus();
      return false;
    }
  }

  // -- the conversation ---------------------------------------------------------------------

  function add(role, content) {
    const item = template.content.firstElementChild.cloneNode(true);
    item.dataset.role = role;
    item.querySelector(".play-role").textContent = role === "user" ? "You" : fields.model.value;
    item.querySelector(".play-text").textContent = content;
    item.querySelector("[data-act=redo]").hidden = role === "user";
    list.append(item);
    const message = { role, content, item };
    messages.push(message);
    item.addEventListener("click", (event) => {
      const act = event.target.closest("[data-act]")?.dataset.act;
      if (!act || running) return;
      cut(message);
      if (act === "redo") answer();
    });
    follow();
    return message;
  }

  function cut(message) {
    const at = messages.indexOf(message);
    for (const { item } of messages.splice(at)) item.remove();
  }

  // Keeps the end in view, unless somebody has scrolled up to read.
  function follow() {
    if (list.scrollHeight - list.scrollTop - list.clientHeight < 120) list.scrollTop = list.scrollHeight;
  }

  function tell(message, name, text) {
    const place = message.item.querySelector(name);
    place.textContent = text;
    place.hidden = false;
    follow();
  }

  function figures({ usage, reason, first, seconds }) {
    // Without the wait for the first, in which the model may have been loaded.
    const [more, writing] = [usage.completion_tokens - 1, seconds - (first ?? 0) / 1000];
    const parts = [
      `${usage.prompt_tokens} + ${usage.completion_tokens} tokens`,
      first === null ? "" : `first after ${Math.round(first)} ms`,
      more > 0 && writing > 0 ? `${(more / writing).toFixed(1)} tokens/s` : "",
      reason === "length" ? "cut off at max tokens" : "",
    ];
    return parts.filter(Boolean).join(" · ");
  }

  async function answer() {
    if (running || !messages.length || !inOrder()) return;
    const asked = body();
    running = new AbortController();
    send.hidden = true;
    stop.hidden = false;
    const message = add("assistant", "");
    message.item.dataset.writing = "";
    const text = message.item.querySelector(".play-text");
    try {
      const token = fields.csrfmiddlewaretoken.value;
      const found = await ask(form.dataset.chatUrl, asked, token, running.signal, (piece) => {
        message.content += piece;
        text.append(piece);
        follow();
      });
      tell(message, ".play-figures", figures(found));
      document.getElementById("model-note").textContent = "";
    } catch (error) {
      if (error.name === "AbortError") tell(message, ".play-figures", "stopped");
      else if (error instanceof Refused) tell(message, ".play-fault", error.message);
      else tell(message, ".play-fault", `The server can't be reached: ${error.message}`);
    } finally {
      delete message.item.dataset.writing;
      running = null;
      send.hidden = false;
      stop.hidden = true;
      fields.message.focus();
    }
  }

  // -- what people do -----------------------------------------------------------------------

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = fields.message.value.trim();
    if (!text || running || !inOrder()) return;
    // A message that got no answer is no part of the conversation that goes on.
    if (messages.length > 1 && !messages.at(-1).content) cut(messages.at(-2));
    fields.message.value = "";
    add("user", text);
    answer();
  });
  fields.message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running) running.abort();
  });
  stop.addEventListener("click", () => running?.abort());
  document.getElementById("clear").addEventListener("click", () => {
    running?.abort();
    messages = [];
    list.replaceChildren();
    fields.message.focus();
  });
  fields.format.addEventListener("change", () => {
    document.getElementById("schema-field").hidden = fields.format.value !== "json_schema";
  });

  function note() {
    const chosen = fields.model.selectedOptions[0];
    document.getElementById("model-note").textContent = chosen?.dataset.note ?? "";
  }
  fields.model.addEventListener("change", note);
  note();

  // -- as code ------------------------------------------------------------------------------

  function showCode() {
    const url = `${location.origin}${form.dataset.chatUrl.replace(/\/chat\/completions$/, "")}`;
    const asked = body(fields.message.value.trim() || (messages.length ? "" : "Hello"));
    document.getElementById("code-text").textContent = (language === "curl" ? asCurl : asPython)(url, asked);
    for (const tab of dialog.querySelectorAll("[data-code]")) {
      tab.setAttribute("aria-selected", String(tab.dataset.code === language));
    }
  }
  document.getElementById("show-code").addEventListener("click", () => {
    if (!inOrder()) return;
    showCode();
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-code]");
    if (chosen) {
      language = chosen.dataset.code;
      showCode();
    }
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
}
