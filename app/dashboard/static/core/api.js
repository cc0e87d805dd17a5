// Requests to the API. Errors are ApiError with the server's own words.
import { askForKey, currentKey } from "./keys.js";
import { eventsOf } from "./sse.js";

export class ApiError extends Error {
  constructor(status, { message, param = null, code = null }) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
  }
}

/** Fetch a path; asks for a key where the server wants one. Returns the response, whose status is 2xx. */
async function send(path, { method = "GET", query, body, form, headers = {}, signal } = {}) {
  const url = query ? `${path}?${searchOf(query)}` : path;
  for (;;) {
    const key = currentKey();
    const sent = { ...headers };
    if (key !== null) sent.authorization = `Bearer ${key}`;
    if (body !== undefined) sent["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(url, {
        method,
        headers: sent,
        body: form ?? (body === undefined ? undefined : JSON.stringify(body)),
        signal,
        credentials: "same-origin",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { message: "The service does not answer. Is it running?" });
    }
    if (response.ok) return response;
    const error = await errorOf(response);
    // Another request may have brought a key meanwhile: then this one goes again without asking.
    if (response.status !== 401) throw error;
    if (key === currentKey() && !(await askForKey(error.message))) throw error;
  }
}

async function errorOf(response) {
  try {
    return new ApiError(response.status, (await response.json()).error);
  } catch {
    return new ApiError(response.status, { message: `The service answered with status ${response.status}.` });
  }
}

function searchOf(query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") search.append(name, one);
    }
  }
  return search;
}

export async function get(path, query, signal) {
  return (await send(path, { query, signal })).json();
}

export async function post(path, body, options = {}) {
  return (await send(path, { ...options, method: "POST", body })).json();
}

export async function remove(path) {
  return (await send(path, { method: "DELETE" })).json();
}

/** Upload a training file. */
export async function upload(file) {
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", file, file.name);
  return (await send("/v1/files", { method: "POST", form })).json();
}

/** What a path answers with, as it comes. */
export async function body(path, signal) {
  return (await send(path, { signal })).body;
}

/** A file to save, fetched with the key, for a link could not carry it. */
export async function blob(path, query) {
  return (await send(path, { query })).blob();
}

/** Server-sent events of a GET or, with a body, a POST: yields `{id, data}` as they come. */
export async function* stream(path, { query, body, lastEventId, signal } = {}) {
  const headers = { accept: "text/event-stream" };
  if (lastEventId) headers["last-event-id"] = lastEventId;
  const method = body === undefined ? "GET" : "POST";
  const response = await send(path, { method, query, body, headers, signal });
  yield* eventsOf(response.body);
}

const JOBS = "/v1/fine_tuning/jobs";
export const jobPath = (id, rest = "") => `${JOBS}/${encodeURIComponent(id)}${rest}`;
export const JOBS_PATH = JOBS;

export const EVALS_PATH = "/v1/evals";
/** Of an eval, or with `run` of one of its runs. */
export const evalPath = (id, run = "", rest = "") => `${EVALS_PATH}/${encodeURIComponent(id)}${run && `/runs/${encodeURIComponent(run)}`}${rest}`;
export const EXPERIMENTS_PATH = "/v1/experiments";
export const experimentPath = (id, rest = "") => `${EXPERIMENTS_PATH}/${encodeURIComponent(id)}${rest}`;
