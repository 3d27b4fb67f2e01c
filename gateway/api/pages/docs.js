"use strict";
// Renders openapi.json. Everything is fetched from this gateway; text is inserted through textContent only.

let document_;

function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// The markup of the document: `code`, and two spaces with a line break
function prose(text, name = "p", attributes = {}) {
  const node = el(name, attributes);
  (text || "").split("  \n").forEach((line, number) => {
    if (number) node.append(el("br"));
    line.split("`").forEach((piece, index) => node.append(index % 2 ? el("code", {}, piece) : piece));
  });
  return node;
}

function resolve(schema) {
  return schema && schema.$ref ? document_.components.schemas[schema.$ref.split("/").pop()] : schema || {};
}

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const either = schema.anyOf || schema.oneOf;
  if (either) return either.filter((one) => one.type !== "null").map(kind).join(" or ");
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  if (schema.type === "array") return `array of ${kind(schema.items || schema.prefixItems?.[0] || {})}`;
  const words = [schema.type || "any"];
  if (schema.format) words.push(schema.format);
  if (schema.minLength !== undefined || schema.maxLength !== undefined) words.push(`${schema.minLength ?? 0} to ${schema.maxLength ?? "any"} characters`);
  if (schema.minimum !== undefined) words.push(`${schema.minimum} to ${schema.maximum ?? "any"}`);
  if (schema.pattern) words.push(schema.pattern);
  return words.join(", ");
}

function inner(schema) {
  if (schema.$ref) return [schema];
  return [...(schema.anyOf || []), ...(schema.items ? [schema.items] : [])].flatMap(inner);
}

function fields(schema, seen = new Set()) {
  const whole = resolve(schema);
  if (!whole.properties || seen.has(whole.title)) return null;
  seen.add(whole.title);
  const rows = Object.entries(whole.properties).map(([name, field]) =>
    el("tr", {},
      el("td", {}, el("code", {}, name), (whole.required || []).includes(name) ? el("span", { class: "must", title: "required" }, " *") : null),
      el("td", { class: "dim" }, kind(field)),
      prose(field.description || "", "td")));
  const out = el("div", {}, el("table", {}, el("tbody", {}, ...rows)));
  for (const further of Object.values(whole.properties).flatMap(inner)) {
    const table = fields(further, seen);
    if (table) out.append(el("details", {}, el("summary", {}, resolve(further).title), prose(resolve(further).description, "p", { class: "dim" }), table));
  }
  return out;
}

function pretty(value) {
  return JSON.stringify(value, null, 2);
}

function shell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

// The request that the form describes
function request(form, method, path) {
  let where = path;
  const query = new URLSearchParams(), headers = {};
  for (const input of form.querySelectorAll("input[data-in]")) {
    if (input.dataset.in === "path") where = where.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (input.value && input.dataset.in === "query") query.set(input.name, input.value);
    else if (input.value) headers[input.name] = input.value;
  }
  const body = form.querySelector("textarea")?.value;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const key = window.document.getElementById("key").value;
  if (key) headers.Authorization = `Bearer ${key}`;
  const suffix = query.toString();
  return { method: method.toUpperCase(), url: where + (suffix ? `?${suffix}` : ""), headers, body };
}

function curl(asked) {
  const lines = [`curl -sS -X ${asked.method} ${shell(location.origin + asked.url)}`];
  for (const [name, value] of Object.entries(asked.headers)) lines.push(`-H ${shell(`${name}: ${name === "Authorization" ? "Bearer $KEY" : value}`)}`.replace("'Authorization: Bearer $KEY'", '"Authorization: Bearer $KEY"'));
  if (asked.body !== undefined) lines.push(`-d ${shell(asked.body)}`);
  return lines.join(" \\\n  ");
}

function trial(operation, method, path) {
  const form = el("form", { class: "fields" });
  for (const parameter of operation.parameters || []) {
    const input = el("input", { name: parameter.name, "data-in": parameter.in, value: parameter.in === "path" || parameter.required ? parameter.example || "" : "", placeholder: parameter.example || "" });
    if (parameter.required) input.required = true;
    form.append(el("label", {}, `${parameter.name} `, input));
  }
  const examples = operation.requestBody?.content["application/json"]?.examples;
  if (examples) {
    const names = Object.keys(examples), text = el("textarea", { spellcheck: "false", "aria-label": "Body" });
    const choice = el("select", { "aria-label": "Example" }, ...names.map((name) => el("option", {}, name)));
    text.value = pretty(examples[names[0]].value);
    choice.addEventListener("change", () => { text.value = pretty(examples[choice.value].value); show(); });
    if (names.length > 1) form.append(el("div", {}, el("label", {}, "Example ", choice)));
    form.append(text);
  }
  const line = el("pre", { class: "curl" }), answer = el("div", { role: "status" });
  const show = () => { line.textContent = curl(request(form, method, path)); };
  form.addEventListener("input", show);
  form.append(el("button", {}, "Send"), el("span", { class: "dim" }, " sends a real request to this gateway"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = request(form, method, path), began = performance.now();
    try {
      const said = await fetch(asked.url, asked), text = await said.text();
      let shown = text;
      try { shown = pretty(JSON.parse(text)); } catch { /* not JSON: shown as received */ }
      answer.replaceChildren(el("p", { class: said.ok ? "good" : "bad" }, `${said.status} ${said.statusText}, ${Math.round(performance.now() - began)} ms`), el("pre", {}, shown));
    } catch (error) {
      answer.replaceChildren(el("p", { class: "bad" }, String(error)));
    }
  });
  window.document.getElementById("key").addEventListener("input", show);
  show();
  return el("details", {}, el("summary", {}, "Try it"), form, line, answer);
}

function answers(operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) => {
    const schema = Object.values(answer.content || {})[0]?.schema, cell = prose(answer.description, "td");
    if (schema?.$ref && status < 300) {
      const table = fields(schema);
      if (table) cell.append(el("details", {}, el("summary", {}, kind(schema)), table));
    }
    return el("tr", {}, el("td", { class: status < 300 ? "good" : "bad" }, status), cell);
  });
  return el("details", {}, el("summary", {}, "Responses"), el("table", {}, el("tbody", {}, ...rows)));
}

function article(operation, method, path) {
  const out = el("article", { id: operation.operationId }, el("h3", {}, operation.summary),
    el("p", { class: "route" }, el("span", { class: `method ${method}` }, method.toUpperCase()), path), prose(operation.description));
  if (operation.parameters?.length) {
    out.append(el("table", {}, el("tbody", {}, ...operation.parameters.map((parameter) =>
      el("tr", {}, el("td", {}, el("code", {}, parameter.name), parameter.required ? el("span", { class: "must", title: "required" }, " *") : null),
        el("td", { class: "dim" }, `${parameter.in}, ${kind(parameter.schema)}`), prose(parameter.description, "td"))))));
  }
  const body = operation.requestBody?.content["application/json"]?.schema;
  if (body) out.append(el("details", {}, el("summary", {}, `Body: ${kind(body)}`), fields(body)));
  out.append(trial(operation, method, path), answers(operation));
  return out;
}

async function draw() {
  const state = window.document.getElementById("state");
  try {
    document_ = await (await fetch("v1/openapi.json")).json();
  } catch (error) {
    state.textContent = `Cannot load v1/openapi.json: ${error}`;
    return;
  }
  const main = window.document.getElementById("operations"), contents = window.document.getElementById("contents");
  main.replaceChildren(prose(document_.info.description), prose(`Version ${document_.info.version}. Send \`Authorization: Bearer KEY\`; errors are \`application/problem+json\` with a stable \`code\`.`, "p", { class: "dim" }));
  for (const tag of document_.tags) {
    const section = el("section", {}, el("h2", {}, tag.name), prose(tag.description, "p", { class: "dim" }));
    contents.append(el("h2", {}, tag.name));
    for (const [path, methods] of Object.entries(document_.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (!operation.tags.includes(tag.name)) continue;
        section.append(article(operation, method, path));
        contents.append(el("a", { href: `#${operation.operationId}` }, operation.summary));
      }
    }
    main.append(section);
  }
  main.dataset.drawn = "true";
  if (location.hash) window.document.querySelector(CSS.escape ? `#${CSS.escape(location.hash.slice(1))}` : location.hash)?.scrollIntoView();
}

window.document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());
draw();
