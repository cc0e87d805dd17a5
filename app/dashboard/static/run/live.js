// A run as it goes on: its event stream, taken up again after a break and while the page is looked at.
import { ApiError, jobPath, stream } from "../core/api.js";

/** Call `onEvent(event)` for each event after `lastId`, until the job is over; returns how to stop. */
export function follow(jobId, lastId, { onEvent, onState }) {
  const aborter = new AbortController();
  run(jobId, lastId, onEvent, onState, aborter.signal).catch((error) => {
    if (error.name !== "AbortError") onState({ live: false, error });
  });
  return () => aborter.abort();
}

async function run(jobId, lastId, onEvent, onState, signal) {
  let wait = 1000;
  while (!signal.aborted) {
    await visible(signal);
    const until = new AbortController();
    // Browsers allow few connections to a server: one that nobody looks at is given back.
    const hide = () => document.visibilityState === "hidden" && until.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const both = AbortSignal.any([signal, until.signal]);
      onState({ live: true, error: null });
      for await (const { id, data } of stream(jobPath(jobId, "/events"), { query: { stream: true }, lastEventId: lastId, signal: both })) {
        if (data === "[DONE]") {
          onState({ live: false, error: null });
          return;
        }
        lastId = id ?? lastId;
        wait = 1000;
        onEvent(JSON.parse(data));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
      if (!until.signal.aborted) onState({ live: false, error });
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    if (until.signal.aborted) continue;
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(2 * wait, 15_000);
  }
}

function visible(signal) {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => document.visibilityState === "visible" && resolve();
    document.addEventListener("visibilitychange", done, { signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}
