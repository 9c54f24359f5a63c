// Requests to the server, and its errors in words: what happened, and what to do.

/** An error whose message is for the reader. */
class Problem extends Error {}

let apiKey = "";
let asking = null; // for the key

const ADVICE = {
  400: "Change the prompt or the setting that it names.",
  401: "Reload the page to enter the key.",
  403: "Open the page at the address that the server printed.",
  404: "Reload the page: the server may have been started with other models.",
  413: "Shorten the text.",
  429: "The server is busy.",
  500: "The server's log says more.",
  503: "The server is stopping or still loading. Try again in a moment.",
};
const UNREACHABLE = "The server cannot be reached. See whether it is still running, then try again; nothing on this page is lost.";

/** The response to a request, if it is no error. */
async function send(path, body, signal) {
  const headers = apiKey ? { Authorization: `Bearer ${apiKey}` } : {};
  const options = body === undefined ? { headers, signal } : {
    method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(UNREACHABLE);
  }
  if (response.ok) return response;
  if (response.status === 401 && (await askForKey())) return send(path, body, signal);
  throw new Problem(await wordsOf(response));
}

async function wordsOf(response) {
  let said = "";
  try {
    said = (await response.json()).error.message;
  } catch {
    said = `The server answered ${response.status} ${response.statusText}.`;
  }
  const wait = Number(response.headers.get("Retry-After"));
  const again = wait > 0 ? ` Try again in ${wait} ${wait === 1 ? "second" : "seconds"}.` : "";
  return `${sentence(said)} ${ADVICE[response.status] ?? ADVICE[response.status < 500 ? 400 : 500]}${again}`;
}

function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

async function ask(path, body, signal) {
  return (await send(path, body, signal)).json();
}

/** The events of a stream, parsed. An end without [DONE] is a lost connection. */
async function* stream(path, body, signal) {
  const response = await send(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const lost = "The connection was lost. What was written is kept; Continue goes on from there.";
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(lost);
    }
    if (part.done) throw new Problem(lost);
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Problem(`${sentence(event.error.message)} What was written is kept.`);
      yield event;
    }
  }
}

/** Ask the reader for the key, once for several requests. Returns whether there is one now. */
function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = $("key-dialog");
    dialog.returnValue = "";
    dialog.onclose = () => {
      asking = null;
      apiKey = $("key").value.trim();
      keep();
      resolve(dialog.returnValue === "use" && apiKey !== "");
    };
    dialog.showModal();
  });
  return asking;
}
