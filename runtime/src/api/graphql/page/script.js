"use strict";

const INTROSPECTION = `{
  __schema {
    queryType { name } mutationType { name } subscriptionType { name }
    types {
      kind name description
      fields(includeDeprecated: true) {
        name description isDeprecated type { ...Type }
        args { name defaultValue type { ...Type } }
      }
      inputFields { name defaultValue type { ...Type } }
      enumValues(includeDeprecated: true) { name }
    }
  }
}
fragment Type on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }`;

const element = (id) => document.getElementById(id);
const [query, variables, result] = ["query", "variables", "result"].map(element);
let running = null;

query.value = localStorage.getItem("query") || "{\n  __typename\n}\n";
variables.value = localStorage.getItem("variables") || "{}";

/// The parts of a stream of events, as they come.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
      const lines = buffer.slice(0, end).split("\n");
      buffer = buffer.slice(end + 2);
      const data = lines.find((line) => line.startsWith("data: "));
      if (data && data.length > 6) yield JSON.parse(data.slice(6));
    }
  }
}

function ask(body, signal) {
  const headers = {
    "content-type": "application/json",
    accept: "application/graphql-response+json, text/event-stream",
  };
  return fetch("/graphql", { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function run() {
  if (running) running.abort();
  const mine = (running = new AbortController());
  localStorage.setItem("query", query.value);
  localStorage.setItem("variables", variables.value);
  element("stop").disabled = false;
  result.textContent = "…";
  try {
    const given = variables.value.trim() ? JSON.parse(variables.value) : {};
    const response = await ask({ query: query.value, variables: given }, mine.signal);
    if ((response.headers.get("content-type") || "").startsWith("text/event-stream")) {
      result.textContent = "";
      for await (const event of events(response)) {
        const text = JSON.stringify(event, null, 2) + "\n" + result.textContent;
        result.textContent = text.slice(0, 200000);
      }
    } else {
      result.textContent = JSON.stringify(await response.json(), null, 2);
    }
  } catch (error) {
    if (mine === running && error.name !== "AbortError") result.textContent = String(error);
  }
  if (mine === running) {
    running = null;
    element("stop").disabled = true;
  }
}

function typeName(type) {
  if (type.kind === "NON_NULL") return typeName(type.ofType) + "!";
  if (type.kind === "LIST") return "[" + typeName(type.ofType) + "]";
  return type.name;
}

function add(parent, tag, text, name) {
  const child = document.createElement(tag);
  child.textContent = text;
  if (name) child.className = name;
  parent.append(child);
  return child;
}

function showType(type, open) {
  const details = document.createElement("details");
  details.open = open;
  add(details, "summary", type.name);
  if (type.description) add(details, "div", type.description, "note");
  for (const field of type.fields || type.inputFields || []) {
    const line = add(details, "div", field.name, "field");
    const args = (field.args || []).map((arg) => `${arg.name}: ${typeName(arg.type)}`);
    if (args.length) line.append(`(${args.join(", ")})`);
    line.append(": ");
    add(line, "span", typeName(field.type), "type");
    if (field.isDeprecated) add(line, "span", " deprecated", "note");
    if (field.description) add(line, "div", field.description, "note");
  }
  for (const value of type.enumValues || []) add(details, "div", value.name, "field");
  return details;
}

async function loadSchema() {
  const answer = await (await ask({ query: INTROSPECTION })).json();
  const schema = answer.data && answer.data.__schema;
  if (!schema) {
    element("schema").textContent = "The server does not tell its schema.";
    return;
  }
  const roots = [schema.queryType, schema.mutationType, schema.subscriptionType];
  const names = roots.filter(Boolean).map((root) => root.name);
  const types = schema.types.filter((type) => !type.name.startsWith("__"));
  const place = (type) => (names.includes(type.name) ? names.indexOf(type.name) : names.length);
  types.sort((a, b) => place(a) - place(b) || a.name.localeCompare(b.name));
  const show = () => {
    const wanted = element("filter").value.trim().toLowerCase();
    const has = (type) =>
      [type, ...(type.fields || []), ...(type.inputFields || [])].some((part) =>
        part.name.toLowerCase().includes(wanted),
      );
    element("schema").replaceChildren(
      ...types.filter(has).map((type) => showType(type, Boolean(wanted) || type.name === names[0])),
    );
  };
  element("filter").addEventListener("input", show);
  show();
}

element("run").addEventListener("click", run);
element("stop").addEventListener("click", () => running && running.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
});
loadSchema().catch((error) => (element("schema").textContent = String(error)));
