// Server-sent events over `fetch`, since a browser's own reader of them can send no token.

import { errorOf, route, send } from "./api.js";

const AGAIN_SECONDS = 2;

// The events of a text/event-stream as {kind, id, data} (WHATWG HTML, 9.2.6); a part of an event
// at the end of the stream is dropped.
async function* parsed(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { kind: "message", id: null, data: "" };
      for (const line of block.split("\n")) {
        const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name === "event") event.kind = value;
        else if (name === "id") event.id = value;
        else if (name === "data") event.data += value;
      }
      if (event.data) yield { ...event, data: JSON.parse(event.data) };
    }
  }
}

// Follow a job to its end, through lost connections: `hear` gets each event of kind "job" and
// "end", `lost` gets the error of a lost connection, or null when it is back. Raises errors of the API.
export async function follow(jobId, { since, hear, lost, signal }) {
  let last = String(since);
  while (!signal.aborted) {
    try {
      const url = route(`jobs/${encodeURIComponent(jobId)}/events`);
      const answer = await send("GET", url, { signal, headers: { "Last-Event-ID": last } });
      if (answer.status === 204) return;
      if (!answer.ok) throw await errorOf(answer);
      lost(null);
      for await (const event of parsed(answer.body)) {
        if (event.kind === "lost") break;
        last = event.id;
        hear(event.kind, event.data);
        if (event.kind === "end") return;
      }
      lost("closed");
    } catch (error) {
      if (signal.aborted) return;
      const passing =
        error.status === undefined ||
        error.status === 0 ||
        error.status >= 500 ||
        error.status === 429;
      if (!passing) throw error;
      lost(error);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_SECONDS * 1000));
  }
}
