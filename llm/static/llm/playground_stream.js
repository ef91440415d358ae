// Asks the chat API and tells of the answer as it comes.

// The data of server-sent events, whatever pieces they arrive in.
export async function* eventData(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}

export class Refused extends Error {}

// `told(text)` gets each piece. Returns {usage, reason, first, seconds}: milliseconds to the first
// piece, and seconds in all. Throws Refused with what the server says against the request.
export async function ask(url, body, token, signal, told) {
  const started = performance.now();
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": token },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok) throw new Refused(await complaint(answer));
  const found = { usage: null, reason: "", first: null, seconds: 0 };
  for await (const data of eventData(answer.body)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message);
    if (chunk.usage) found.usage = chunk.usage;
    for (const choice of chunk.choices ?? []) {
      if (choice.finish_reason) found.reason = choice.finish_reason;
      const text = choice.delta?.content;
      if (!text) continue;
      found.first ??= performance.now() - started;
      told(text);
    }
  }
  found.seconds = (performance.now() - started) / 1000;
  if (!found.reason) throw new Refused("The answer broke off.");
  return found;
}

async function complaint(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}
