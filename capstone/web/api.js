// Talks to the assistant. What goes wrong comes as a Problem with a code, for which texts.js has sentences.
export class Problem extends Error {
  constructor(code, message = "", values = {}) {
    super(message);
    this.code = code;
    this.values = { message, ...values };
  }
}

const given = (name) => document.querySelector(`meta[name=${name}]`).content;
export const limits = { characters: Number(given("prompt-characters")), bytes: Number(given("upload-bytes")) };

let key = given("assistant-key") || sessionStorage.getItem("key") || "";

export const hasKey = () => Boolean(key);

export function useKey(pasted) {
  key = pasted.trim();
  sessionStorage.setItem("key", key);
}

function problemOf(status, body, seconds) {
  const error = body?.error ?? {};
  return new Problem(error.code || `http_${status}`, error.message || `HTTP ${status}`, { seconds: Number(seconds) || 5, limit: limits.bytes / 2 ** 20 });
}

// fetch() and its readers reject with a TypeError when the network or the service is gone.
const named = (error) => (error instanceof TypeError ? new Problem("offline") : error);

export async function call(method, path, body, { raw = false, ...options } = {}) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const response = await fetch(path, { method, headers, body: sent, ...options }).catch((error) => Promise.reject(named(error)));
  if (!response.ok) throw problemOf(response.status, await response.json().catch(() => null), response.headers.get("Retry-After"));
  return raw ? response : response.json().catch((error) => Promise.reject(named(error)));
}

// fetch() says nothing of an upload's progress; XMLHttpRequest does.
export async function upload(file, progress, signal) {
  if (file.size > limits.bytes) throw new Problem("too_large", "", { limit: limits.bytes / 2 ** 20 });
  await file.slice(0, 1).arrayBuffer().catch(() => Promise.reject(new Problem("unreadable")));
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file);
    request.open("POST", "v1/documents");
    request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Problem("offline"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = () =>
      request.status < 300 ? resolve(request.response) : reject(problemOf(request.status, request.response, request.getResponseHeader("Retry-After")));
    signal.addEventListener("abort", () => request.abort());
    signal.throwIfAborted();
    request.send(form);
  });
}

// Yields the parsed events of a stream as they come. One that ends without its last word was cut off: Problem "cut".
export async function* events(path, body, signal) {
  const response = await call("POST", path, body, { signal, raw: true });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => Promise.reject(named(error)));
    if (done) throw new Problem("cut");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw problemOf(0, event);
      yield event;
    }
  }
}

export const isAlive = () => fetch("readyz").then((response) => response.ok, () => false);
