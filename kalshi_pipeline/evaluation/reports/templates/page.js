"use strict";
// Tables sort by a click or a key on a column's name: numbers as numbers, what is missing last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("n") ? "descending" : "ascending";
      const second = first === "descending" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(table.tBodies[0], column, head.classList.contains("n"), order === "ascending" ? 1 : -1);
    });
  });
}
function sort(body, column, numeric, sign) {
  const value = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    return numeric && text !== "" ? Number(text) : text;
  };
  const compare = (a, b) => (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const rows = [...body.rows].map((row) => [value(row), row]);
  rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b)));
  body.append(...rows.map(([, row]) => row));
}
// Light or dark: the reader's system says, the button overrules it for this visit.
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
// Where the reader is, in the list of contents.
const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
for (const id of links.keys()) seen.observe(document.getElementById(id));
// A trade's book, moment by moment: a slider moves a line through the picture and says what was there.
for (const replay of document.querySelectorAll(".replay")) {
  const moments = JSON.parse(replay.querySelector("script").textContent);
  const slider = replay.querySelector("input");
  const cursor = replay.querySelector(".cursor");
  const told = replay.querySelector("output");
  const ladder = replay.querySelector(".ladder tbody");
  const show = () => {
    const moment = moments[slider.valueAsNumber];
    cursor.setAttribute("transform", `translate(${moment.x} 0)`);
    told.textContent = moment.says;
    const most = Math.max(...[...moment.asks, ...moment.bids].map((level) => level[2]));
    const asks = [...moment.asks].reverse().map((level) => rung("ask", level, most));
    const bids = moment.bids.map((level) => rung("bid", level, most));
    bids[0]?.classList.add("touch");
    ladder.replaceChildren(...asks, ...bids);
  };
  slider.addEventListener("input", show);
  for (const button of replay.querySelectorAll(".step button")) {
    button.addEventListener("click", () => {
      slider.valueAsNumber += Number(button.dataset.by);
      show();
    });
  }
  replay.querySelector(".step").hidden = false;
  show();
}
function rung(side, [price, size, amount], most) {
  const row = document.createElement("tr");
  const bar = document.createElement("i");
  row.className = side;
  bar.style.width = `${(100 * amount) / most}%`;
  for (const content of [side, price, size, bar]) row.insertCell().append(content);
  for (const cell of [row.cells[1], row.cells[2]]) cell.className = "n";
  return row;
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
