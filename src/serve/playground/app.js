// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The playground: a page without libraries that talks to the server it came from, through the same API as everybody. Nothing is
// kept beyond the tab but the colours' choice.
"use strict";

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function show(element, text, kind = "") {
  element.textContent = text;
  element.classList.toggle("bad", kind === "bad");
  element.classList.toggle("good", kind === "good");
}

// Storage may be forbidden; then nothing is remembered.
function remembered(storage, key, value) {
  try {
    if (value === undefined) return window[storage].getItem(key);
    window[storage].setItem(key, value);
  } catch { /* as above */ }
  return null;
}

// ---- The API.

function headers(extra = {}) {
  const key = $("set-key").value;
  return key ? { ...extra, Authorization: `Bearer ${key}` } : extra;
}

async function failure(response) {
  let message = "";
  try {
    const text = await response.text();
    try {
      const { error } = JSON.parse(text);
      message = typeof error === "string" ? error : error.message;
      if (error.param) message = `${error.param}: ${message}`;
    } catch {
      message = text.slice(0, 200);
    }
  } catch { /* the status is enough */ }
  const advice = response.status === 401 || response.status === 403 ? " Enter the API key in the settings." : "";
  return new Error(`${message || response.statusText} (HTTP ${response.status}).${advice}`);
}

// Calls `onData` with the data of each server-sent event.
async function readEvents(body, onData) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    // A carriage return at the end may be half of a line's end.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) onData(line.slice(5).trimStart());
    }
  }
}

// Cuts the tokens of an answer out of its text. The server says of each token which bytes it has; the text itself is what counts:
// tokens that are not in it (ends of turns) are left out, and text without tokens gets one of its own, of unknown origin.
class Aligner {
  constructor(onToken) {
    this.onToken = onToken;
    this.decoder = new TextDecoder();
    this.pending = [];  // [text, is reasoning]
    this.queue = [];
  }

  add(text, isReasoning, entries) {
    for (const entry of entries) {
      // Bytes of one character may lie in two tokens: it is shown with the second.
      const piece = entry.bytes ? this.decoder.decode(new Uint8Array(entry.bytes), { stream: true }) : entry.token;
      this.queue.push({ piece, entry });
    }
    if (text) this.pending.push([text, isReasoning]);
    this.match();
  }

  match() {
    while (this.pending.length > 0) {
      const [text, isReasoning] = this.pending[0];
      const take = (n) => {
        if (n < text.length) this.pending[0] = [text.slice(n), isReasoning];
        else this.pending.shift();
        return text.slice(0, n);
      };
      const fits = ({ piece }) => piece !== "" && text.startsWith(piece);
      if (this.queue.length === 0) return;
      const found = this.queue.findIndex(fits);
      if (found >= 0) {
        const [token] = this.queue.splice(0, found + 1).slice(-1);
        this.onToken(take(token.piece.length), isReasoning, token.entry);
      } else if (this.queue.some(({ piece }) => piece.startsWith(text))) {
        return;  // the rest of the token's text is on its way
      } else if (this.queue.every(({ piece }) => piece === "")) {
        return;
      } else {
        // A token may have lost its first blanks to the template.
        const trimmed = this.queue.findIndex(({ piece }) => piece.trimStart() !== "" && text.startsWith(piece.trimStart()));
        if (trimmed < 0) {
          this.queue = [];
          this.onToken(take(text.length), isReasoning, null);
        } else {
          const [token] = this.queue.splice(0, trimmed + 1).slice(-1);
          this.onToken(take(token.piece.trimStart().length), isReasoning, token.entry);
        }
      }
    }
  }

  // Text that no token claimed, at the end or when the server speaks of no tokens.
  flush() {
    for (const [text, isReasoning] of this.pending) this.onToken(text, isReasoning, null);
    this.pending = [];
    this.queue = [];
  }
}

// Streams an answer. `onToken(text, isReasoning, entry)` gets its tokens; the return value is what is known at the end.
async function streamChat(body, signal, onToken, onProgress = () => {}) {
  const result = { text: "", tokens: 0, first: null, last: null, usage: null, finish: null, begin: performance.now() };
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw await failure(response);
  let hasTokens = false, isDone = false;
  const aligner = new Aligner(onToken);
  await readEvents(response.body, (data) => {
    if (data === "[DONE]") {
      isDone = true;
      return;
    }
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message ?? String(event.error));
    if (event.usage) result.usage = event.usage;
    const choice = event.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? {};
    const reasoning = delta.reasoning_content ?? "";
    const content = delta.content ?? "";
    const entries = choice.logprobs?.content ?? [];
    hasTokens ||= entries.length > 0;
    if (reasoning || content || entries.length > 0) {
      const now = performance.now();
      result.first ??= now;
      result.last = now;
      result.tokens += entries.length || 1;
      result.text += content;
      if (reasoning) aligner.add(reasoning, true, content ? [] : entries);
      if (content || !reasoning) aligner.add(content, false, entries);
      if (!hasTokens) aligner.flush();
      onProgress(result);
    }
    if (choice.finish_reason) result.finish = choice.finish_reason;
  });
  aligner.flush();
  if (!isDone) throw new Error("The stream ended too early: the server stopped or the connection broke.");
  if (result.usage) result.tokens = result.usage.completion_tokens;
  return result;
}

function number(id) {
  const { value, valueAsNumber } = $(id);
  return value === "" || Number.isNaN(valueAsNumber) ? undefined : valueAsNumber;
}

// The request that the settings make of messages; undefined fields are not sent.
function requestOf(messages, changes = {}) {
  const system = $("set-system").value.trim();
  const top = number("set-top") ?? 0;
  return {
    model: $("set-model").value || undefined,
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    temperature: number("set-temperature"),
    top_p: number("set-top-p"),
    seed: number("set-seed"),
    max_tokens: number("set-max-tokens"),
    draft: $("set-draft").value.trim() || undefined,
    logprobs: true,
    top_logprobs: Math.min(Math.max(top, 0), 20),
    ...changes,
  };
}

// ---- Tokens on the page.

const details = new WeakMap();  // of a token's element: what the server said of it
const ORIGINS = { model: "drawn by the model", draft: "guessed by the draft, verified by the model", forced: "forced by the grammar" };

// A text made of tokens. Reasoning goes to a fold of its own.
class TokenView {
  constructor(parent, isCode = false) {
    this.parent = parent;
    this.isCode = isCode;
    this.counts = { model: 0, draft: 0, forced: 0, plain: 0 };
    this.main = this.field("Answer");
    parent.append(this.main);
    this.main.classList.add("running");
  }

  field(label) {
    return make("div", { class: this.isCode ? "tokens code" : "tokens", tabindex: "0", role: "group", "aria-label": `${label}, token by token: arrow keys walk over it` });
  }

  add(text, isReasoning, entry) {
    if (isReasoning && !this.reasoning) {
      this.reasoning = this.field("Reasoning");
      this.parent.insertBefore(make("details", { class: "reasoning", open: "" }, make("summary", {}, "Reasoning"), this.reasoning), this.main);
    }
    const origin = entry?.origin in ORIGINS ? entry.origin : "plain";
    this.counts[origin] += 1;
    const token = make("span", { class: `tok ${origin}` }, text);
    if (entry) details.set(token, entry);
    (isReasoning ? this.reasoning : this.main).append(token);
  }

  end() {
    this.main.classList.remove("running");
  }

  // "31 % drafted, 12 % forced", of what has an origin.
  shares() {
    const { model, draft, forced } = this.counts;
    const all = model + draft + forced;
    if (all === 0) return "";
    const percent = (n) => `${Math.round((100 * n) / all)} %`;
    return [`${percent(draft)} from drafts`, ...(forced > 0 ? [`${percent(forced)} forced`] : [])].join(", ");
  }
}

// Blanks and control characters made visible.
function visible(text) {
  if (text === "") return "(empty)";
  return text.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/[\u0000-\u001f]/g, "·");
}

const percentText = (logprob) => {
  const p = 100 * Math.exp(logprob);
  return p >= 99.95 ? "100 %" : p >= 10 ? `${p.toFixed(1)} %` : p >= 0.01 ? `${p.toFixed(2)} %` : "< 0.01 %";
};

function showPopover(token) {
  const popover = $("popover");
  const entry = details.get(token);
  for (const old of document.querySelectorAll(".tok.active")) old.classList.remove("active");
  if (!entry) {
    popover.hidden = true;
    return;
  }
  token.classList.add("active");
  const origin = ORIGINS[entry.origin] ?? "origin unknown";
  popover.replaceChildren(make("p", {}, entry.token_id === undefined ? origin : `${origin} · id ${entry.token_id}`));
  const rows = [...(entry.top_logprobs ?? [])];
  if (!rows.some((r) => r.token === entry.token)) rows.push(entry);
  const table = make("table");
  for (const row of rows) {
    const bar = make("div");
    bar.style.width = `${(100 * Math.exp(row.logprob)).toFixed(1)}%`;
    table.append(make("tr", row.token === entry.token ? { class: "chosen" } : {},
      make("td", { class: "text" }, visible(row.token)), make("td", {}, percentText(row.logprob)), make("td", { class: "bar" }, bar)));
  }
  popover.append(table);
  popover.hidden = false;
  const at = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const box = popover.getBoundingClientRect();
  const below = at.bottom + 6 + box.height <= innerHeight;
  popover.style.left = `${Math.max(6, Math.min(at.left, innerWidth - box.width - 6))}px`;
  popover.style.top = `${below ? at.bottom + 6 : Math.max(6, at.top - box.height - 6)}px`;
}

function hidePopover() {
  $("popover").hidden = true;
  for (const old of document.querySelectorAll(".tok.active")) old.classList.remove("active");
}

function startPopovers() {
  document.addEventListener("mouseover", (event) => {
    const token = event.target.closest?.(".tokens .tok");
    if (token) showPopover(token);
    else if (!document.activeElement?.classList.contains("tokens")) hidePopover();
  });
  document.addEventListener("scroll", hidePopover, true);
  document.addEventListener("focusout", (event) => {
    if (event.target.classList?.contains("tokens")) hidePopover();
  });
  document.addEventListener("keydown", (event) => {
    const field = document.activeElement;
    if (!field?.classList.contains("tokens")) return;
    const tokens = field.querySelectorAll(".tok");
    if (tokens.length === 0) return;
    const now = [...tokens].findIndex((t) => t.classList.contains("active"));
    const next = { ArrowRight: now + 1, ArrowLeft: now < 0 ? 0 : now - 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const token = tokens[Math.max(0, Math.min(next, tokens.length - 1))];
    token.scrollIntoView({ block: "nearest" });
    showPopover(token);
    token.classList.add("active");
    const entry = details.get(token);
    $("announce").textContent = `${visible(token.textContent)}${entry ? `, ${ORIGINS[entry.origin] ?? ""}, ${percentText(entry.logprob)}` : ""}`;
  });
}

// Speed behind the first token, as a reader had it.
function speed(result) {
  const seconds = (result.last - result.first) / 1000;
  return result.tokens > 1 && seconds > 0 ? (result.tokens - 1) / seconds : null;
}

function figures(result, view) {
  const parts = [`${result.tokens} tokens`];
  const rate = speed(result);
  if (rate) parts.push(`${rate.toFixed(1)} tokens/s`);
  if (result.first !== null) parts.push(`first after ${Math.round(result.first - result.begin)} ms`);
  if (view.shares()) parts.push(view.shares());
  if (result.usage?.prompt_tokens_details?.cached_tokens > 0) parts.push(`${result.usage.prompt_tokens_details.cached_tokens} prompt tokens cached`);
  if (result.finish && result.finish !== "stop") parts.push(`ended: ${result.finish}`);
  return parts.join(" · ");
}

// Runs `work(signal)` with one button that starts and one that stops; only one at a time.
function runner(start, stop, work) {
  let controller = null;
  stop.addEventListener("click", () => controller?.abort());
  return async () => {
    if (controller) return;
    controller = new AbortController();
    start.disabled = true;
    stop.disabled = false;
    try {
      await work(controller.signal);
    } finally {
      controller = null;
      start.disabled = false;
      stop.disabled = true;
    }
  };
}

const isAbort = (error) => error.name === "AbortError";
const words = (error) => (error instanceof TypeError ? "The server cannot be reached." : error.message);

// ---- Chat.

function startChat() {
  const log = $("messages");
  const input = $("chat-input");
  const empty = log.firstElementChild;
  let messages = [];

  function atEnd(change) {
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    change();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }

  const answer = runner($("chat-send"), $("chat-stop"), async (signal) => {
    const turn = make("div", { class: "turn assistant" });
    const view = new TokenView(turn);
    atEnd(() => log.append(turn));
    $("chat-again").disabled = true;
    let text = "";
    try {
      const result = await streamChat(requestOf(messages), signal, (piece, isReasoning, entry) => {
        if (!isReasoning) text += piece;
        atEnd(() => view.add(piece, isReasoning, entry));
      });
      atEnd(() => turn.append(make("p", { class: "figures" }, figures(result, view))));
      $("announce").textContent = `Answer: ${text}`;
    } catch (error) {
      atEnd(() => turn.append(isAbort(error) ? make("p", { class: "figures" }, "stopped") : make("p", { class: "error", role: "alert" }, words(error))));
    }
    view.end();
    if (text) messages.push({ role: "assistant", content: text });
    $("chat-again").disabled = false;
  });

  function send() {
    const text = input.value.trim();
    if (!text || $("chat-send").disabled) return;
    empty.remove();
    // An answer that failed leaves its question; the next one joins it.
    const last = messages[messages.length - 1];
    if (last?.role === "user") last.content += `\n\n${text}`;
    else messages.push({ role: "user", content: text });
    log.append(make("div", { class: "turn user" }, text));
    log.scrollTop = log.scrollHeight;
    input.value = "";
    answer();
  }

  $("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const id of ["chat-stop", "schema-stop", "race-stop"]) $(id).click();
  });
  $("chat-again").addEventListener("click", () => {
    if ($("chat-send").disabled) return;
    if (messages[messages.length - 1]?.role === "assistant") messages.pop();
    if (messages.length === 0) return;
    log.lastElementChild.remove();
    answer();
  });
  $("chat-clear").addEventListener("click", () => {
    $("chat-stop").click();
    messages = [];
    log.replaceChildren(empty);
    $("chat-again").disabled = true;
    input.focus();
  });
}

// ---- Structured answers.

const EXAMPLES = {
  Person: {
    prompt: "Write a short record of Ada Lovelace as JSON.",
    schema: {
      type: "object",
      properties: { name: { type: "string" }, born: { type: "integer", minimum: 1000, maximum: 2100 }, fields: { type: "array", items: { type: "string" }, minItems: 1, maxItems: 3 } },
      required: ["name", "born", "fields"], additionalProperties: false,
    },
  },
  Sentiment: {
    prompt: "How does this review sound? \"The soup was cold, but the waiter was charming.\" Answer in JSON.",
    schema: {
      type: "object",
      properties: { sentiment: { enum: ["positive", "mixed", "negative"] }, score: { type: "integer", minimum: 1, maximum: 5 } },
      required: ["sentiment", "score"], additionalProperties: false,
    },
  },
  Recipe: {
    prompt: "Write a recipe for pancakes as JSON.",
    schema: {
      type: "object",
      properties: {
        title: { type: "string", maxLength: 40 },
        ingredients: {
          type: "array", minItems: 2, maxItems: 5,
          items: { type: "object", properties: { name: { type: "string", maxLength: 20 }, grams: { type: "integer", minimum: 1 } }, required: ["name", "grams"], additionalProperties: false },
        },
        minutes: { type: "integer", minimum: 1, maximum: 600 },
      },
      required: ["title", "ingredients", "minutes"], additionalProperties: false,
    },
  },
};

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];
const SUBSCHEMAS = { one: ["items", "contains", "not", "additionalProperties", "propertyNames", "if", "then", "else"], list: ["allOf", "anyOf", "oneOf", "prefixItems"], map: ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"] };

// What is plainly wrong with a schema, or "". The server knows more and has the last word.
function schemaProblem(schema, path = "#") {
  if (typeof schema === "boolean") return "";
  if (schema === null || typeof schema !== "object" || Array.isArray(schema)) return `${path}: a schema is an object, true or false`;
  const types = schema.type === undefined ? [] : [].concat(schema.type);
  const unknown = types.find((t) => !TYPES.includes(t));
  if (unknown !== undefined) return `${path}/type: ${JSON.stringify(unknown)} is no type; there are ${TYPES.join(", ")}`;
  if (schema.enum !== undefined && (!Array.isArray(schema.enum) || schema.enum.length === 0)) return `${path}/enum: expected a list with at least one value`;
  if (schema.required !== undefined && !(Array.isArray(schema.required) && schema.required.every((r) => typeof r === "string"))) return `${path}/required: expected a list of names`;
  for (const name of SUBSCHEMAS.one) {
    if (schema[name] === undefined || (name === "items" && Array.isArray(schema[name]))) continue;
    const problem = schemaProblem(schema[name], `${path}/${name}`);
    if (problem) return problem;
  }
  for (const name of SUBSCHEMAS.list) {
    if (schema[name] === undefined) continue;
    if (!Array.isArray(schema[name])) return `${path}/${name}: expected a list of schemas`;
    for (const [i, sub] of schema[name].entries()) {
      const problem = schemaProblem(sub, `${path}/${name}/${i}`);
      if (problem) return problem;
    }
  }
  for (const name of SUBSCHEMAS.map) {
    if (schema[name] === undefined) continue;
    if (schema[name] === null || typeof schema[name] !== "object" || Array.isArray(schema[name])) return `${path}/${name}: expected an object of schemas`;
    for (const [key, sub] of Object.entries(schema[name])) {
      const problem = schemaProblem(sub, `${path}/${name}/${key}`);
      if (problem) return problem;
    }
  }
  return "";
}

// Where a text stops being JSON and what should stand there: browsers' own messages differ, and some name no place.
function jsonProblem(text) {
  let at = 0;
  const skip = () => { at += /^[ \t\n\r]*/.exec(text.slice(at))[0].length; };
  const fail = (expected) => { throw { at, expected }; };
  const scalar = /(?:"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)/y;
  function take(expected) {
    scalar.lastIndex = at;
    const found = scalar.exec(text)?.[0];
    if (found === undefined) fail(expected);
    if (expected === "a name in quotes" && found[0] !== '"') fail(expected);
    at += found.length;
  }
  function list(end, item) {
    at += 1;
    skip();
    if (text[at] === end) {
      at += 1;
      return;
    }
    for (;;) {
      item();
      skip();
      if (text[at] === end) break;
      if (text[at] !== ",") fail(`a comma or ${end}`);
      at += 1;
      skip();
    }
    at += 1;
  }
  function value() {
    skip();
    if (text[at] === "[") list("]", value);
    else if (text[at] === "{") {
      list("}", () => {
        take("a name in quotes");
        skip();
        if (text[at] !== ":") fail("a colon");
        at += 1;
        value();
      });
    } else take("a value");
  }
  try {
    value();
    skip();
    if (at < text.length) fail("the end");
  } catch (problem) {
    if (problem.expected === undefined) return "it is nested too deeply";
    const before = text.slice(0, problem.at).split("\n");
    return `line ${before.length}, column ${before[before.length - 1].length + 1}: expected ${problem.expected}`;
  }
  return "";
}

// {schema} or {problem}.
function readSchema(text) {
  let schema;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    return { problem: `No JSON: ${jsonProblem(text) || error.message}` };
  }
  const problem = schemaProblem(schema);
  return problem ? { problem } : { schema };
}

function startSchema() {
  const text = $("schema-text");
  const select = $("schema-example");
  for (const name of Object.keys(EXAMPLES)) select.append(make("option", {}, name));

  function check() {
    const { problem } = readSchema(text.value);
    show($("schema-message"), problem ?? "A schema as far as this page can tell.", problem ? "bad" : "good");
    text.setAttribute("aria-invalid", problem ? "true" : "false");
    return !problem;
  }
  function choose() {
    const { prompt, schema } = EXAMPLES[select.value];
    $("schema-prompt").value = prompt;
    text.value = JSON.stringify(schema, null, 2);
    check();
  }
  select.addEventListener("change", choose);
  text.addEventListener("input", check);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("schema-form").requestSubmit();
  });
  $("schema-format").addEventListener("click", () => {
    if (check()) text.value = JSON.stringify(JSON.parse(text.value), null, 2);
  });
  choose();

  const generate = runner($("schema-run"), $("schema-stop"), async (signal) => {
    const { schema, problem } = readSchema(text.value);
    if (problem) {
      check();
      text.focus();
      return;
    }
    const box = $("schema-answer");
    box.replaceChildren();
    show($("schema-verdict"), "");
    const view = new TokenView(box, true);
    try {
      const body = requestOf([{ role: "user", content: $("schema-prompt").value }], {
        response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
        forced: $("schema-forced").checked ? "canonical" : undefined,
        finish: $("schema-finish").checked || undefined,
      });
      const result = await streamChat(body, signal, (piece, isReasoning, entry) => view.add(piece, isReasoning, entry));
      box.append(make("p", { class: "figures" }, figures(result, view)));
      try {
        JSON.parse(result.text);
        show($("schema-verdict"), "Complete JSON.", "good");
      } catch {
        show($("schema-verdict"), result.finish === "length" ? "Cut: allow more tokens in the settings." : "This is no complete JSON.", "bad");
      }
    } catch (error) {
      if (isAbort(error)) show($("schema-verdict"), "stopped");
      else show($("schema-verdict"), words(error), "bad");
    }
    view.end();
  });
  $("schema-form").addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
}

// ---- The race of two draft methods.

class Lane {
  constructor(method, limit) {
    this.limit = limit;
    this.rate = make("span", {}, "–");
    this.bar = make("div");
    this.box = make("div", { class: "scroll" });
    this.figures = make("p", { class: "figures" }, "waiting");
    this.element = make("div", { class: "lane" }, make("h2", {}, method),
      make("div", { class: "speed" }, this.rate, make("small", {}, " tokens/s")), make("div", { class: "track" }, this.bar), this.box, this.figures);
  }

  async run(body, signal) {
    const view = new TokenView(this.box);
    this.figures.textContent = "running";
    try {
      this.result = await streamChat(body, signal, (piece, isReasoning, entry) => {
        view.add(piece, isReasoning, entry);
        this.box.scrollTop = this.box.scrollHeight;
      }, (state) => this.progress(state));
      this.progress(this.result);
      this.bar.style.width = "100%";
      // Each step draws one token with the model; the others of a step were guessed or forced.
      const { model, draft, forced } = view.counts;
      const perStep = model > 0 ? ` · ${((model + draft + forced) / model).toFixed(2)} tokens a step` : "";
      this.figures.textContent = `${figures(this.result, view)}${perStep} · ${((this.result.last - this.result.begin) / 1000).toFixed(2)} s`;
    } catch (error) {
      this.figures.replaceChildren(isAbort(error) ? "stopped" : make("span", { class: "error", role: "alert" }, words(error)));
    }
    view.end();
  }

  progress(state) {
    const rate = speed(state);
    if (rate) this.rate.textContent = rate.toFixed(1);
    this.bar.style.width = `${Math.min(100, (100 * state.tokens) / this.limit)}%`;
  }
}

function startRace() {
  const race = runner($("race-start"), $("race-stop"), async (signal) => {
    const methods = [$("race-a").value.trim() || "none", $("race-b").value.trim() || "none"];
    const limit = number("set-max-tokens") ?? 256;
    const lanes = methods.map((method) => new Lane(method, limit));
    $("race-lanes").replaceChildren(...lanes.map((lane) => lane.element));
    show($("race-verdict"), "");
    const messages = [{ role: "user", content: $("race-prompt").value }];
    // Both draw with one seed: an exact method gives the other's text.
    const seed = number("set-seed") ?? Math.floor(Math.random() * 2 ** 31);
    const body = (i) => requestOf(messages, { draft: methods[i], seed, top_logprobs: 0 });
    if ($("race-order").value === "turns") {
      for (const [i, lane] of lanes.entries()) if (!signal.aborted) await lane.run(body(i), signal);
    } else {
      await Promise.all(lanes.map((lane, i) => lane.run(body(i), signal)));
    }
    const [a, b] = lanes.map((lane) => (lane.result ? speed(lane.result) : null));
    if (!a || !b) return;
    const winner = a >= b ? 0 : 1;
    lanes[winner].element.classList.add("won");
    const same = lanes[0].result.text === lanes[1].result.text;
    show($("race-verdict"), `${methods[winner]} is ${(Math.max(a, b) / Math.min(a, b)).toFixed(2)} times as fast. The answers are ${same ? "the same, character for character" : "not the same"}.`, same ? "good" : "");
  });
  $("race-form").addEventListener("submit", (event) => {
    event.preventDefault();
    race();
  });
}

// ---- Metrics.

// Prometheus' text format: families by name, each with type, help and samples {labels, value, suffix}.
function parseMetrics(text) {
  const families = new Map();
  const family = (name) => {
    if (!families.has(name)) families.set(name, { name, type: "untyped", help: "", samples: [] });
    return families.get(name);
  };
  for (const line of text.split("\n")) {
    const comment = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line);
    if (comment) {
      family(comment[2])[comment[1].toLowerCase()] = comment[3];
      continue;
    }
    const sample = /^([a-zA-Z_:][\w:]*)(\{.*\})?\s+(\S+)/.exec(line);
    if (!sample || line.startsWith("#")) continue;
    const [, name, labels = "", value] = sample;
    const base = name.replace(/_(bucket|sum|count)$/, "");
    const owner = families.has(name) || !families.has(base) ? name : base;
    family(owner).samples.push({ suffix: name.slice(owner.length), labels, value: Number(value.replace("Inf", "Infinity")) });
  }
  return families;
}

// A quantile of a histogram, linear within its bucket.
function quantile(family, q) {
  const buckets = family.samples.filter((s) => s.suffix === "_bucket")
    .map((s) => [Number(/le="([^"]*)"/.exec(s.labels)?.[1].replace("+Inf", "Infinity")), s.value])
    .sort((a, b) => a[0] - b[0]);
  const all = buckets.length > 0 ? buckets[buckets.length - 1][1] : 0;
  if (all === 0) return null;
  let [low, below] = [0, 0];
  for (const [high, count] of buckets) {
    if (count >= q * all) return high === Infinity ? low : low + ((high - low) * (q * all - below)) / Math.max(count - below, 1);
    [low, below] = [high, count];
  }
  return low;
}

function compact(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const size = Math.abs(x);
  if (size >= 1e6) return x.toExponential(2);
  if (size >= 1000 || Number.isInteger(x)) return Math.round(x).toLocaleString("en");
  return x.toPrecision(3);
}

function spark(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 120 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const least = Math.min(...values), span = Math.max(...values) - least;
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const scale = 120 / Math.max(values.length - 1, 30);  // few values do not fill it
  line.setAttribute("points", values.map((v, i) => `${(120 - scale * (values.length - 1 - i)).toFixed(1)},${span > 0 ? 18 - (16 * (v - least)) / span : 18}`).join(" "));
  svg.append(line);
  return svg;
}

// Tiles above the table, where the server has the metric.
const TILES = [
  ["decant_completion_tokens_total", "output tokens/s", (now) => now.rate],
  ["decant_prompt_tokens_total", "prompt tokens/s", (now) => now.rate],
  ["decant_running", "requests running", (now) => now.value],
  ["decant_waiting", "requests waiting", (now) => now.value],
  ["decant_kv_pages_used", "cache pages in use", (now) => now.value],
  ["decant_accepted_tokens_total", "drafts kept", (now, all) => {
    const drafted = all.get("decant_drafted_tokens_total")?.value;
    return drafted > 0 ? `${Math.round((100 * now.value) / drafted)} %` : "–";
  }],
];

function startMetrics() {
  const history = new Map();  // of a sample's name: values or rates, newest last
  let before = new Map(), beforeTime = 0, isBusy = false;

  function row(name, help, value, rate, values) {
    return make("tr", {}, make("td", {}, make("code", {}, name), ...(help ? [make("small", {}, help)] : [])),
      make("td", { class: "number" }, value), make("td", { class: "number" }, rate), make("td", {}, ...(values.length > 1 ? [spark(values)] : [])));
  }

  function update(families, time) {
    const seconds = (time - beforeTime) / 1000;
    const rows = [], now = new Map(), filter = $("metrics-filter").value.trim().toLowerCase();
    for (const family of families.values()) {
      const matches = `${family.name} ${family.help}`.toLowerCase().includes(filter);
      if (family.type === "histogram") {
        const count = family.samples.find((s) => s.suffix === "_count")?.value ?? 0;
        const quantiles = [50, 95, 99].map((p) => `p${p} ${compact(quantile(family, p / 100))}`).join("  ");
        if (matches) rows.push(row(family.name, family.help, count > 0 ? quantiles : "–", "", []));
        continue;
      }
      for (const [i, sample] of family.samples.entries()) {
        const name = family.name + sample.suffix + sample.labels;
        const isCounter = family.type === "counter";
        const old = before.get(name);
        const rate = isCounter && old !== undefined && seconds > 0 ? Math.max(0, (sample.value - old.value) / seconds) : null;
        const values = history.get(name) ?? [];
        if (!isCounter || rate !== null) values.push(isCounter ? rate : sample.value);
        if (values.length > 120) values.shift();
        history.set(name, values);
        now.set(name, { value: sample.value, rate });
        if (matches) rows.push(row(name, i === 0 ? family.help : "", compact(sample.value), rate === null ? "" : compact(rate), values));
      }
    }
    $("metrics-table").tBodies[0].replaceChildren(...rows);
    $("metrics-tiles").replaceChildren(...TILES.filter(([name]) => now.has(name)).map(([name, label, read]) => {
      const value = read(now.get(name), now);
      return make("div", { class: "tile" }, make("b", {}, typeof value === "string" ? value : compact(value)), make("span", {}, label));
    }));
    before = now;
    beforeTime = time;
  }

  async function poll() {
    if (isBusy || $("metrics").hidden || document.hidden || !$("metrics-live").checked) return;
    isBusy = true;
    try {
      const response = await fetch("metrics", { headers: headers() });
      if (!response.ok) throw await failure(response);
      update(parseMetrics(await response.text()), performance.now());
      show($("metrics-message"), "");
    } catch (error) {
      show($("metrics-message"), words(error), "bad");
    }
    isBusy = false;
  }
  setInterval(poll, 1000);
  $("tab-metrics").addEventListener("click", poll);
}

// ---- Tabs, settings, theme.

function startTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  function choose(tab, focus) {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    hidePopover();
    history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
    if (focus) tab.focus();
  }
  for (const [i, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(tab, false));
    tab.addEventListener("keydown", (event) => {
      const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      const target = tabs[(next + tabs.length) % tabs.length];
      choose(target, true);
      target.click();
    });
  }
  const named = tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
  if (named) choose(named, false);
}

function startTheme() {
  const button = $("theme");
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const saved = remembered("localStorage", "decant-theme");
  function set(theme) {
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "☀" : "☾";
  }
  set(saved ?? (preferred.matches ? "dark" : "light"));
  preferred.addEventListener("change", () => {
    if (!remembered("localStorage", "decant-theme")) set(preferred.matches ? "dark" : "light");
  });
  button.addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    set(theme);
    remembered("localStorage", "decant-theme", theme);
  });
}

async function loadModels() {
  const select = $("set-model");
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) throw await failure(response);
    const { data } = await response.json();
    const chosen = select.value;
    select.replaceChildren(...data.map(({ id }) => make("option", {}, id)));
    if (data.some(({ id }) => id === chosen)) select.value = chosen;
    show($("status"), data.length > 0 ? data[0].id : "no model");
  } catch (error) {
    show($("status"), words(error), "bad");
  }
}

function startSettings() {
  const key = $("set-key");
  key.value = remembered("sessionStorage", "decant-key") ?? "";
  key.addEventListener("change", () => {
    remembered("sessionStorage", "decant-key", key.value);
    loadModels();
  });
  const toggle = $("settings-toggle");
  function fold(isOpen) {
    toggle.setAttribute("aria-expanded", String(isOpen));
    $("settings").hidden = !isOpen;
  }
  toggle.addEventListener("click", () => fold($("settings").hidden));
  if (matchMedia("(max-width: 60rem)").matches) fold(false);
}

startTheme();
startSettings();
startTabs();
startPopovers();
startChat();
startSchema();
startRace();
startMetrics();
loadModels();
