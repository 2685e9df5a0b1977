// The page of a gallery: asks the service, and shows what it answers. Whatever comes
// from the service is set as text or as an attribute, never as HTML.

import { Histogram } from "./histogram.js";

const $ = (id) => document.getElementById(id);
const TOKEN = "gallery token";

// What the matches on the page were found by: { photo } or { key }, or null.
let asked = null;
// Answers of older questions are thrown away.
let latest = 0;

class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

async function call(method, path, parameters = [], body = undefined) {
  const query = new URLSearchParams(parameters).toString();
  const response = await fetch(query ? `${path}?${query}` : path, {
    method,
    body,
    headers: { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` },
  }).catch(() => {
    throw new Refused(0, "The service cannot be reached.");
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, reason(answer, response));
  return answer;
}

function reason(answer, response) {
  if (typeof answer.detail === "string") return answer.detail;
  if (Array.isArray(answer.detail)) {
    return answer.detail.map((each) => `${each.loc.at(-1)}: ${each.msg}`).join("; ");
  }
  return `The service answered ${response.status} ${response.statusText}.`;
}

// Runs what a user began, and shows what went wrong.
async function attempt(work) {
  $("error").hidden = true;
  try {
    return await work();
  } catch (error) {
    if (error.status === 401) leave();
    $("error").textContent = error.message;
    $("error").hidden = false;
    return undefined;
  }
}

// ---- the token

function leave() {
  sessionStorage.removeItem(TOKEN);
  $("gallery").hidden = $("leave").hidden = true;
  $("entrance").hidden = false;
  $("summary").textContent = "";
  $("matches").replaceChildren();
  $("token").focus();
}

async function enter() {
  const found = await call("GET", "v1/gallery");
  $("entrance").hidden = true;
  $("gallery").hidden = $("leave").hidden = false;
  showOverview(found);
}

// ---- the filters

// Inputs of time have no zone; here they are UTC.
const readTime = (input) => (input.value ? new Date(`${input.value}Z`) : null);
const writeTime = (input, time) => {
  input.value = time ? time.toISOString().slice(0, 19) : "";
};

function chosenCameras() {
  return [...$("cameras").querySelectorAll("input:checked")].map((each) => each.value);
}

function conditions() {
  const found = [
    ["k", $("count").value || "20"],
    ["pool_tracks", $("pool").checked],
    ...chosenCameras().map((camera) => ["cameras", camera]),
  ];
  for (const id of ["since", "until"]) {
    const time = readTime($(id));
    if (time) found.push([id, time.toISOString()]);
  }
  return found;
}

const histogram = new Histogram($("histogram"), (since, until) => {
  writeTime($("since"), since);
  // To the second, upwards: the last image of the span stays inside.
  writeTime($("until"), new Date(until.getTime() + 1000));
  filtersChanged();
});

function showOverview(found) {
  const threshold = found.threshold === null
    ? "no same-person threshold"
    : `same person below ${found.threshold.toFixed(3)} (false accepts ${(100 * found.false_accept_rate).toPrecision(2)} %)`;
  const kept = found.retention_days === null ? "" : `, kept for ${found.retention_days} days`;
  $("summary").textContent =
    `${found.rows.toLocaleString("en")} images, ${Object.keys(found.cameras).length} cameras${kept}; ${threshold}`;
  const checked = new Set(chosenCameras());
  $("cameras").replaceChildren(
    ...Object.entries(found.cameras).map(([name, rows]) => cameraBox(name, rows, checked)),
  );
  showHistogram(found);
}

function showHistogram(found) {
  histogram.draw(found.histogram);
  histogram.mark(readTime($("since")), readTime($("until")));
}

function cameraBox(name, rows, checked) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  const count = document.createElement("span");
  box.type = "checkbox";
  box.value = name;
  box.checked = checked.has(name);
  count.className = "rows";
  count.textContent = rows.toLocaleString("en");
  label.append(box, name, count);
  return label;
}

function filtersChanged() {
  histogram.mark(readTime($("since")), readTime($("until")));
  search();
}

async function camerasChanged() {
  const chosen = chosenCameras().map((camera) => ["cameras", camera]);
  search();
  const found = await attempt(() => call("GET", "v1/gallery", chosen));
  if (found) showHistogram(found);
}

// ---- the search

function search() {
  if (!asked) return undefined;
  const mine = ++latest;
  $("state").textContent = "Searching …";
  return attempt(async () => {
    const began = performance.now();
    let found;
    try {
      found = await question();
    } catch (error) {
      if (mine === latest) $("state").textContent = "";
      throw error;
    }
    if (mine !== latest) return;
    showMatches(found);
    const took = Math.round(performance.now() - began);
    $("state").textContent = found.matches.length
      ? `${found.matches.length} matches in ${took} ms`
      : "No image meets these conditions.";
  });
}

function question() {
  if (asked.key !== undefined) {
    return call("POST", "v1/search/row", [["key", asked.key], ...conditions()]);
  }
  const body = new FormData();
  body.append("photo", asked.photo);
  return call("POST", "v1/search/photo", conditions(), body);
}

function showMatches(found) {
  $("matches").replaceChildren(...found.matches.map(matchItem));
}

function matchItem(match, place) {
  const item = $("match").content.firstElementChild.cloneNode(true);
  const $$ = (selector) => item.querySelector(selector);
  const time = new Date(match.time);
  const where = `camera ${match.camera}, ${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  item.classList.toggle("same", match.same_person === true);
  item.dataset.key = match.key;
  $$(".again").setAttribute("aria-label", `Match ${place + 1}, ${where}: search from it`);
  $$("img").hidden = match.picture === null;
  $$(".none").hidden = match.picture !== null;
  if (match.picture !== null) $$("img").src = match.picture;
  $$(".mark").textContent = match.same_person ? "same person" : "";
  $$(".distance").textContent = match.distance.toFixed(3);
  $$(".camera").textContent = match.camera;
  $$("time").dateTime = match.time;
  $$("time").textContent = time.toISOString().slice(0, 19).replace("T", " ");
  $$(".again").addEventListener("click", () => askRow(match));
  $$(".delete").setAttribute("aria-label", `Delete match ${place + 1}, ${where}`);
  $$(".delete").addEventListener("click", () => askDelete(match, item));
  return item;
}

function showQuery(source, text) {
  if ($("query").src.startsWith("blob:")) URL.revokeObjectURL($("query").src);
  $("query").hidden = source === null;
  if (source !== null) $("query").src = source;
  $("drop-text").textContent = text;
}

function askPhoto(photo) {
  asked = { photo };
  showQuery(URL.createObjectURL(photo), "Drop another picture here, or choose one");
  search();
}

function askRow(match) {
  asked = { key: match.key };
  $("photo").value = "";
  showQuery(match.picture, `From camera ${match.camera}. Drop another picture, or choose one`);
  window.scrollTo({ top: 0 });
  $("matches").focus({ preventScroll: true });
  search();
}

function askDelete(match, item) {
  const dialog = $("sure");
  dialog.returnValue = "no";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    attempt(async () => {
      await call("DELETE", "v1/rows", [["key", match.key]]);
      item.remove();
      $("state").textContent = "The image was deleted.";
      if (asked?.key === match.key) asked = null;
      $("matches").focus();
      showOverview(await call("GET", "v1/gallery"));
    });
  };
  dialog.showModal();
}

// ---- what a user does

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  attempt(enter);
});
$("leave").addEventListener("click", leave);
$("photo").addEventListener("change", () => {
  if ($("photo").files.length) askPhoto($("photo").files[0]);
});
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => event.preventDefault());
}
$("drop").addEventListener("dragover", () => $("drop").classList.add("over"));
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  $("drop").classList.remove("over");
  const photo = event.dataTransfer.files[0];
  if (photo) askPhoto(photo);
});
$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  filtersChanged();
});
$("cameras").addEventListener("change", camerasChanged);
for (const id of ["since", "until", "count", "pool"]) {
  $(id).addEventListener("change", filtersChanged);
}
$("reset").addEventListener("click", () => {
  // The inputs are empty only after this event.
  setTimeout(() => {
    filtersChanged();
    camerasChanged();
  });
});

// On a phone the filters would stand between the picture and the matches.
$("filter-box").open = matchMedia("(min-width: 60rem)").matches;
if (sessionStorage.getItem(TOKEN)) attempt(enter);
