// Talks to the assistant. Errors come as Problem, with the server's own sentence.
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let key = document.querySelector("meta[name=assistant-key]").content || sessionStorage.getItem("key") || "";

export const hasKey = () => Boolean(key);

export function useKey(given) {
  key = given.trim();
  sessionStorage.setItem("key", key);
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body.error?.message || response.statusText);
}

export async function call(method, path, body, options = {}) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options });
  if (!response.ok) throw await problemOf(response);
  return options.raw ? response : response.json();
}

// fetch() says nothing of an upload's progress; XMLHttpRequest does.
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file);
    request.open("POST", "v1/documents");
    request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Problem(0, ""));
    request.onload = () =>
      request.status < 300 ? resolve(request.response) : reject(new Problem(request.status, request.response?.error?.message || request.statusText));
    request.send(form);
  });
}

// Yields the parsed chunks of an answer as they come.
export async function* answer(body, signal) {
  const response = await call("POST", "v1/chat/completions", { ...body, stream: true }, { signal, raw: true });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Problem(0, chunk.error.message);
      yield chunk;
    }
  }
}
