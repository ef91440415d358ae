// A request to the chat API as code that people can run elsewhere.

export function asCurl(url, body) {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return [
    `curl -N ${url}/chat/completions \\`,
    '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d '${json}'`,
  ].join("\n");
}

export function asPython(url, body) {
  const { stream_options: _options, ...plain } = body;
  const names = Object.keys(plain).map((name) => `    ${name}=${literal(plain[name], 1)},`);
  return [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(url)})  # reads OPENAI_API_KEY`,
    "answer = client.chat.completions.create(",
    ...names,
    ")",
    "for chunk in answer:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n");
}

// JSON as Python writes it.
function literal(value, depth) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const entries = Array.isArray(value)
    ? value.map((one) => literal(one, depth + 1))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one, depth + 1)}`);
  if (!entries.length) return open + close;
  const short = open + entries.join(", ") + close;
  if (short.length <= 80 && !short.includes("\n")) return short;
  const space = "    ".repeat(depth + 1);
  return `${open}\n${entries.map((one) => `${space}${one},\n`).join("")}${"    ".repeat(depth)}${close}`;
}
