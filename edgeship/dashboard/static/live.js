// Crosshair with values on charts, dragging a time range, sending the form by itself, and fresh data every 15 seconds.
// The pages show everything without this file.
"use strict";

const REFRESH_MS = 15000;

function nearest(points, position) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < position) low = middle; else high = middle;
  }
  return position - points[low][0] < points[high][0] - position ? low : high;
}

function row(name, value) {
  const line = document.createElement("div");
  const left = document.createElement("span"), right = document.createElement("b");
  left.textContent = name;
  right.textContent = value;
  line.append(left, right);
  return line;
}

function prepare(figure) {
  const points = JSON.parse(figure.dataset.points);
  const labels = figure.dataset.labels.split(",");
  const tip = figure.querySelector(".tip");
  let dragged = null;

  function shown() {
    return [...figure.querySelectorAll("svg")].find((svg) => svg.getBoundingClientRect().width > 0);
  }

  function place(event) {
    const svg = shown(), box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const left = Number(svg.dataset.left), plot = Number(svg.dataset.plot);
    const position = ((event.clientX - box.left) / scale - left) / plot;
    return { svg, scale, left, plot, position: Math.min(1, Math.max(0, position)) };
  }

  function show(event) {
    if (!points.length) return;
    const at = place(event), point = points[nearest(points, at.position)];
    const x = at.left + point[0] * at.plot, cross = at.svg.querySelector(".cross");
    cross.setAttribute("x1", x);
    cross.setAttribute("x2", x);
    figure.classList.add("over");
    const when = document.createElement("div");
    when.className = "when";
    when.textContent = point[1];
    tip.replaceChildren(when, ...labels.map((label, index) => row(label, point[2][index])));
    tip.hidden = false;
    const width = tip.offsetWidth, middle = x * at.scale;
    tip.style.left = `${middle + 14 + width > figure.clientWidth ? middle - width - 14 : middle + 14}px`;
  }

  function hide() {
    figure.classList.remove("over");
    tip.hidden = true;
    dragged = null;
  }

  figure.addEventListener("pointermove", show);
  figure.addEventListener("pointerleave", hide);
  figure.addEventListener("pointerdown", (event) => { dragged = event.pointerType === "mouse" ? place(event).position : null; });
  figure.addEventListener("pointerup", (event) => {
    if (dragged === null) return;
    const ends = [dragged, place(event).position].sort((a, b) => a - b);
    dragged = null;
    if (ends[1] - ends[0] < 0.02) return;
    const start = Number(figure.dataset.start), length = Number(figure.dataset.end) - start;
    const iso = (share) => new Date(1000 * (start + share * length)).toISOString().slice(0, 19);
    const query = new URLSearchParams(location.search);
    query.set("since", iso(ends[0]));
    query.set("until", iso(ends[1]));
    location.search = query.toString();
  });
}

function prepareAll(root) {
  root.querySelectorAll("figure.chart").forEach(prepare);
}

async function refresh() {
  const live = document.getElementById("live");
  if (!live || document.hidden || document.querySelector(".chart.over") || live.contains(document.activeElement)) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (!fresh) return;
    live.replaceWith(fresh);
    document.querySelector(".updated").replaceWith(page.querySelector(".updated"));
    prepareAll(fresh);
  } catch {
    // The server has stopped; the page stays as it is and says as of when.
  }
}

document.querySelectorAll("form[data-auto] select").forEach((select) => {
  select.addEventListener("change", () => {
    select.form.querySelectorAll("input").forEach((input) => { input.disabled = input.value === ""; });
    select.form.requestSubmit();
  });
});
prepareAll(document);
setInterval(refresh, REFRESH_MS);
