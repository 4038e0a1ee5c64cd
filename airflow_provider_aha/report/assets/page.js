"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { people, rows, words } = data;
  const size = rows.person.length;
  const byId = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en-US");
  const DAY = 86400000;
  const asDate = (day) => (day === null ? "" : new Date(day * DAY).toISOString().slice(0, 10));

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key in made && key !== "list") made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  // --- charts -------------------------------------------------------------------------------------

  const ink = { fill: "var(--ink)" };

  function place(id, svg, label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    // The image as a whole is named; what it is made of has no role that could have a name.
    for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
    svg.removeAttribute("width");
    svg.removeAttribute("height");
    byId(id).append(svg);
  }

  function seatsChart() {
    const seats = data.seats.filter((part) => part.seats > 0);
    const total = d3.sum(seats, (part) => part.seats);
    if (!total) return nothing("chart-seats", "No paid seats.");
    let at = 0;
    for (const part of seats) {
      part.from = at;
      at += part.seats;
      part.to = at;
      part.share = part.seats / total;
    }
    const wide = (share) => seats.filter((part) => part.share >= share);
    place("chart-seats", Plot.plot({
      width: 1240, height: 64, margin: 0, marginTop: 2, marginBottom: 2, x: { axis: null, domain: [0, total] },
      marks: [
        Plot.rect(seats, { x1: "from", x2: "to", y1: 0, y2: 1, fill: (d) => `var(--s-${d.key})`,
          stroke: "var(--card)", strokeWidth: 2 }),
        Plot.rect(seats.filter((d) => d.key === "free"), { x1: "from", x2: "to", y1: 0, y2: 1, fill: "none",
          stroke: "var(--soft)", strokeDasharray: "4 3", inset: 1 }),
        Plot.text(wide(0.02), { x: (d) => (d.from + d.to) / 2, y: 0.5, text: (d) => number(d.seats),
          fill: (d) => `var(--s-${d.key}-ink)`, fontSize: 17, fontWeight: 600 }),
      ],
      y: { axis: null },
    }), `Paid seats: ${seats.map((part) => `${part.name} ${part.seats}`).join(", ")}.`);
    byId("chart-seats").append(element("ul", { className: "legend" }, ...seats.map((part) => {
      const box = element("i");
      box.style.background = `var(--s-${part.key})`;
      return element("li", {}, box, `${part.name}: ${number(part.seats)} (${Math.round(part.share * 100)} %)`);
    })));
  }

  function trendChart() {
    const points = data.trend.map((point) => ({ ...point, date: new Date(`${point.day}T00:00:00Z`) }));
    if (points.length < 2) {
      return nothing("chart-trend", "One snapshot so far; a trend needs two.");
    }
    const bought = purchasedLine(points);
    const last = points.slice(-1);
    const top = d3.max([...points.map((d) => d.in_use), ...bought.map((d) => d.seats)]);
    place("chart-trend", Plot.plot({
      width: 610, height: 300, marginLeft: 42, marginRight: 96, marginTop: 12, marginBottom: 28,
      style: { fontSize: "12.5px", color: "var(--soft)", background: "none" },
      x: { type: "utc", label: null, ticks: 5, tickSize: 0 },
      y: { label: null, domain: [0, top], ticks: 4, tickSize: 0, tickFormat: number, grid: true },
      marks: [
        Plot.lineY(bought, { x: "date", y: "seats", stroke: "var(--soft)", strokeWidth: 1.5, strokeDasharray: "5 4",
          curve: "step-after" }),
        Plot.areaY(points, { x: "date", y: "unused", fill: "var(--accent)", fillOpacity: 0.14 }),
        Plot.lineY(points, { x: "date", y: "in_use", stroke: "var(--s-active)", strokeWidth: 2.25 }),
        Plot.lineY(points, { x: "date", y: "unused", stroke: "var(--accent)", strokeWidth: 2.25 }),
        Plot.dot(last, { x: "date", y: "in_use", fill: "var(--s-active)", r: 3.5 }),
        Plot.dot(last, { x: "date", y: "unused", fill: "var(--accent)", r: 3.5 }),
        ...labels([
          ...(bought.length ? [{ date: last[0].date, y: bought[bought.length - 1].seats, text: "purchased" }] : []),
          { date: last[0].date, y: last[0].in_use, text: "in use" },
          { date: last[0].date, y: last[0].unused, text: "unused" },
        ], top),
      ],
    }), `Seats over ${points.length} snapshots. Now ${last[0].in_use} in use, ${last[0].unused} of them unused.`);
  }

  function labels(ends, top) {
    ends.sort((a, b) => a.y - b.y);
    // Labels of lines that meet are moved apart.
    ends.forEach((end, index) => {
      end.at = index ? Math.max(end.y, ends[index - 1].at + top * 0.065) : end.y;
    });
    return [Plot.text(ends, { x: "date", y: "at", text: (d) => `${number(d.y)} ${d.text}`, textAnchor: "start", dx: 8,
      ...ink, fontWeight: 550 })];
  }

  function purchasedLine(points) {
    const known = Object.entries(data.purchases).map(([day, seats]) => ({ date: new Date(`${day}T00:00:00Z`), seats }));
    if (!known.length) return [];
    // Before the first day on which it was told, the number is taken to be the same.
    return [{ ...known[0], date: points[0].date }, ...known.filter((point) => point.date > points[0].date),
      { ...known[known.length - 1], date: points[points.length - 1].date }];
  }

  function heatChart() {
    const { roles, heat: lines, alone } = data;
    if (!lines.length) return nothing("chart-heat", "Nobody has a role in a workspace.");
    const name = (_, index) => `${index}`;
    const cells = lines.flatMap((line, index) =>
      roles.map((role) => ({ line: name(line, index), role, count: line.counts[role] || 0 })));
    const most = d3.max(cells.filter((d) => Number(d.line) < alone), (d) => d.count) || 1;
    const strong = (d) => Math.min(1, d.count / most);
    const short = (text) => (text.length > 26 ? `${text.slice(0, 25)}…` : text);
    place("chart-heat", Plot.plot({
      width: 610, height: 26 + lines.length * 17.2, marginLeft: 190, marginTop: 24, marginRight: 4, marginBottom: 2, padding: 0.06,
      style: { fontSize: "12.5px", color: "var(--soft)", background: "none" },
      x: { domain: roles, axis: "top", label: null, tickSize: 0 },
      y: { domain: lines.map(name), label: null, tickSize: 0, axis: "left",
        tickFormat: (key) => `${lines[key].sole_owner ? "◆ " : ""}${short(lines[key].workspace)}` },
      marks: [
        Plot.cell(cells, { x: "role", y: "line", fill: "var(--heat-low)" }),
        Plot.cell(cells.filter((d) => d.count && Number(d.line) < alone),
          { x: "role", y: "line", fill: "var(--heat)", fillOpacity: (d) => 0.06 + 0.5 * strong(d) }),
        Plot.text(cells.filter((d) => d.count), { x: "role", y: "line", text: (d) => number(d.count),
          ...ink, fontWeight: 550 }),
      ],
      opacity: { type: "identity" }, color: { type: "identity" },
    }), `People by workspace and role, for ${lines.length} lines. ` + lines.slice(0, alone).map((line) =>
      `${line.workspace}: ${roles.filter((role) => line.counts[role]).map((role) => `${role} ${line.counts[role]}`).join(", ")}`).join(". "));
    if (lines.some((line) => line.sole_owner)) {
      byId("chart-heat").append(element("ul", { className: "legend" }, element("li", {}, "◆ has only one owner")));
    }
  }

  function nothing(id, text) {
    byId(id).append(element("p", { className: "nothing" }, text));
  }

  if (byId("charts")) {
    seatsChart();
    trendChart();
    heatChart();
  }

  // --- how old is what is shown -------------------------------------------------------------------

  function notice(word, text) {
    byId("notices").append(element("p", { className: "notice" }, element("b", {}, word), ` ${text}`));
  }
  const age = Math.floor((Date.now() - data.asOf) / DAY);
  if (age > 7 && !data.review) notice("Old", `This page is ${number(age)} days old.`);
  if (data.review && Date.now() > data.until) notice("Expired", "Decisions can't be submitted any more: open a new review.");

  // --- paper shows what a screen has folded up ----------------------------------------------------

  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")];
    for (const one of unfolded) one.open = true;
  });
  window.addEventListener("afterprint", () => { for (const one of unfolded) one.open = false; });

  if (!byId("table")) return;

  // --- the rows -----------------------------------------------------------------------------------

  const flag = Object.fromEntries(data.flags.map((name, index) => [name, 1 << index]));
  const folded = words.map((word) => word.toLowerCase());
  const whoFolded = people.name.map((name, index) => `${name} ${people.email[index]}`.toLowerCase());
  const key = (row) => `u${people.id[rows.person[row]]}.${words[rows.key[row]]}`;
  const warm = data.attention.reduce((mask, name) => mask | flag[name], 0);
  const decisions = new Map();
  const ACCOUNT = "revoke account";

  const text = {
    person: (row) => people.name[rows.person[row]],
    email: (row) => people.email[rows.person[row]],
    status: (row) => data.status[people.status[rows.person[row]]],
    last_seen: (row) => asDate(people.seen[rows.person[row]]),
    account_age: (row) => {
      const age = people.age[rows.person[row]];
      return age === null ? "unknown" : `${number(age)} day${age === 1 ? "" : "s"}`;
    },
    seat: (row) => (people.seat[rows.person[row]] ? "Paid seat" : "Free"),
    workspace: (row) => words[rows.workspace[row]],
    role: (row) => words[rows.role[row]],
    sign_in: (row) => words[people.signIn[rows.person[row]]],
    in_roster: (row) => {
      const known = words[people.roster[rows.person[row]]];
      return known && `roster: ${known}`;
    },
    suggestion: (row) => words[people.suggestion[rows.person[row]]],
    why: (row) => words[people.why[rows.person[row]]],
  };

  // Two facts to a column, so that the table fits on a screen.
  // As on the page, where those who need attention come first: names that begin with a letter before all others.
  const byName = people.name.map((name) => `${/^\p{L}/u.test(name) ? 0 : name ? 1 : 2}${name.toLowerCase()}`);

  const COLUMNS = [
    ["Person", ["person", "email"], 18, (row) => byName[rows.person[row]]],
    ["Access", ["role", "workspace"], 13, (row) => text.workspace(row).toLowerCase() || "\uffff"],
    ["Last seen", ["status", "last_seen"], 9, (row) => people.days[rows.person[row]] ?? 1e9],
    ["Account", ["seat", "account_age"], 8, (row) => people.created[rows.person[row]] ?? 0],
    ["Sign-in", ["sign_in", "in_roster"], 13, (row) => text.sign_in(row)],
    ["Suggestion", ["suggestion", "why"], 18, (row) => text.suggestion(row)],
    ["Decision", ["decision"], 10, (row) => (decisions.get(row) || { decision: "" }).decision],
    ["Reviewer", ["reviewer"], 8, (row) => (decisions.get(row) || { reviewer: "" }).reviewer],
    ["Note", ["note"], 8, (row) => (decisions.get(row) || { note: "" }).note],
  ].map(([label, parts, width, order]) => ({ label, parts: parts.filter((part) => data.columns.includes(part)), width, order }))
    .filter((column) => column.parts.length)
    .filter((column) => data.review || !["decision", "reviewer", "note"].includes(column.parts[0]));

  // --- filters ------------------------------------------------------------------------------------

  const CHIPS = { "": "All", ...data.chips, ...(data.hasBefore ? { new: data.otherChips.new } : {}),
    ...(data.review ? { undecided: data.otherChips.undecided } : {}) };
  const inChip = {
    "": () => true,
    new: (row) => words[rows.changed[row]] === "new",
    undecided: (row) => !decisions.has(row),
  };
  for (const name of Object.keys(data.chips)) inChip[name] = (row) => (people.flags[rows.person[row]] & flag[name]) !== 0;

  const LISTS = {
    status: ["Status", (row) => people.status[rows.person[row]], (value) => data.status[value]],
    seat: ["Seat", (row) => (people.seat[rows.person[row]] ? "paid" : "free"), (value) => value],
    workspace: ["Workspace", (row) => text.workspace(row), (value) => value],
    role: ["Role", (row) => text.role(row), (value) => value],
    sign_in: ["Sign-in", (row) => text.sign_in(row), (value) => value],
    suggestion: ["Suggestion", (row) => text.suggestion(row), (value) => value],
    ...(data.review ? { decision: ["Decision", (row) => (decisions.get(row) || { decision: "" }).decision, (value) => value] } : {}),
  };

  const NAMES = ["chip", ...Object.keys(LISTS), "search"];
  const state = Object.fromEntries(NAMES.map((name) => [name, ""]));
  const lists = {};
  let order = null;
  let sorted = { column: null, ascending: true };
  let shown = [];

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const known = [...given.keys()].some((name) => NAMES.includes(name));
    for (const name of NAMES) state[name] = (known ? given.get(name) : data.filters[name]) || "";
    if (!(state.chip in CHIPS)) state.chip = "";
    for (const [name, list] of Object.entries(lists)) {
      if (![...list.options].some((option) => option.value === state[name])) state[name] = "";
      list.value = state[name];
    }
    byId("search").value = state.search;
  }

  function writeAddress() {
    const kept = new URLSearchParams(NAMES.filter((name) => state[name]).map((name) => [name, state[name]])).toString();
    try {
      history.replaceState(null, "", `#${kept}`);
    } catch {
      location.hash = kept;
    }
  }

  function counts(valueOf) {
    const found = new Map();
    for (let row = 0; row < size; row++) {
      const value = valueOf(row);
      if (value) found.set(value, (found.get(value) || 0) + 1);
    }
    return found;
  }

  function makeFilters() {
    for (const [name, label] of Object.entries(CHIPS)) {
      const button = element("button", { type: "button", "data-chip": name }, label, element("span"));
      button.addEventListener("click", () => choose("chip", name));
      byId("chips").append(button);
    }
    for (const [name, [label, valueOf, nameOf]] of Object.entries(LISTS)) {
      const list = element("select", { "data-filter": name }, element("option", { value: "" }, "any"));
      const values = name === "decision" ? data.choices.map((choice) => [choice, null]) : [...counts(valueOf)];
      if (name !== "status") values.sort((a, b) => a[0].localeCompare(b[0]));
      for (const [value, count] of values) {
        list.append(element("option", { value }, count === null ? value : `${nameOf(value)} (${number(count)})`));
      }
      list.addEventListener("change", () => choose(name, list.value));
      lists[name] = list;
      byId("filters").append(element("label", {}, label, list));
    }
    byId("search").addEventListener("input", (event) => choose("search", event.target.value));
    byId("clear").addEventListener("click", () => {
      for (const name of NAMES) state[name] = "";
      for (const list of Object.values(lists)) list.value = "";
      byId("search").value = "";
      update();
    });
    for (const button of document.querySelectorAll("#attention [data-chip]")) {
      button.addEventListener("click", () => {
        choose("chip", button.dataset.chip);
        byId("table").scrollIntoView();
        byId("grid").focus({ preventScroll: true });
      });
    }
    window.addEventListener("hashchange", () => { readAddress(); update(false); });
  }

  function countChips() {
    for (const button of byId("chips").children) {
      const holds = inChip[button.dataset.chip];
      let count = 0;
      for (let row = 0; row < size; row++) count += holds(row) ? 1 : 0;
      button.lastChild.textContent = number(count);
      button.setAttribute("aria-pressed", String(button.dataset.chip === state.chip));
    }
  }

  function choose(name, value) {
    state[name] = value;
    update();
  }

  function filter() {
    const tests = [];
    if (state.chip) tests.push(inChip[state.chip]);
    for (const [name, [, valueOf]] of Object.entries(LISTS)) {
      if (state[name]) {
        const wanted = state[name];
        tests.push((row) => valueOf(row) === wanted);
      }
    }
    const wanted = state.search.trim().toLowerCase();
    if (wanted) {
      const person = whoFolded.map((who) => who.includes(wanted));
      const word = folded.map((one) => one.includes(wanted));
      tests.push((row) => person[rows.person[row]] || word[rows.workspace[row]] || word[rows.role[row]]);
    }
    const found = [];
    for (let index = 0; index < size; index++) {
      const row = order ? order[index] : index;
      if (tests.every((test) => test(row))) found.push(row);
    }
    return found;
  }

  function update(remember = true) {
    shown = filter();
    if (remember) writeAddress();
    for (const button of byId("chips").children) {
      button.setAttribute("aria-pressed", String(button.dataset.chip === state.chip));
    }
    byId("shown").textContent = `${number(shown.length)} of ${number(size)} rows` +
      (data.total > size ? ` on this page; ${number(data.total)} in all` : "");
    byId("grid").scrollTop = 0;
    draw(true);
  }

  // --- the table, of which only the rows in sight exist --------------------------------------------

  const HEIGHT = 48;
  const body = document.querySelector("#rows tbody");
  const above = element("tr", { className: "spacer", ariaHidden: "true" }, element("td", { colSpan: COLUMNS.length }));
  const below = element("tr", { className: "spacer", ariaHidden: "true" }, element("td", { colSpan: COLUMNS.length }));
  const alive = new Map();

  function makeHead() {
    const total = COLUMNS.reduce((sum, column) => sum + column.width, 0);
    const line = element("tr");
    for (const column of COLUMNS) {
      const button = element("button", { type: "button" }, column.label);
      const head = element("th", { scope: "col" }, button);
      head.style.width = `${(100 * column.width) / total}%`;
      button.addEventListener("click", () => sort(column));
      column.head = head;
      line.append(head);
    }
    document.querySelector("#rows thead").append(line);
    byId("rows").setAttribute("aria-label", "Access, one row per person and role");
  }

  function sort(column) {
    sorted = { column, ascending: sorted.column === column ? !sorted.ascending : true };
    const values = Array.from({ length: size }, (_, row) => column.order(row));
    const sign = sorted.ascending ? 1 : -1;
    order = Array.from({ length: size }, (_, row) => row);
    order.sort((a, b) => (values[a] < values[b] ? -sign : values[a] > values[b] ? sign : a - b));
    for (const other of COLUMNS) other.head.removeAttribute("aria-sort");
    column.head.setAttribute("aria-sort", sorted.ascending ? "ascending" : "descending");
    update(false);
  }

  function makeRow(row) {
    const line = element("tr", { "data-key": key(row) });
    if (people.flags[rows.person[row]] & warm) line.className = "warm";
    for (const column of COLUMNS) {
      const cell = element("td");
      for (const part of column.parts) cell.append(part in text ? fact(part, row) : control(part, row));
      line.append(cell);
    }
    return line;
  }

  function fact(part, row) {
    const value = text[part](row);
    const made = element("div", { title: value }, element("bdi", {}, value));
    const tag = { person: people.rights[rows.person[row]] && data.columns.includes("administrator") && "Admin",
      role: words[rows.changed[row]] === "new" && data.columns.includes("changed") && "New" }[part];
    if (tag) made.prepend(element("span", { className: "tag" }, tag), " ");
    return made;
  }

  function control(part, row) {
    const label = { decision: "Decision", reviewer: "Reviewer", note: "Note" }[part];
    const about = `${label} on ${text.person(row)}, ${text.role(row)} ${text.workspace(row)}`;
    const held = decisions.get(row);
    if (part === "decision") {
      const list = element("select", { ariaLabel: about }, element("option", { value: "" }, "open"),
        ...data.choices.map((choice) => element("option", { value: choice }, choice)));
      list.value = held ? held.decision : "";
      list.addEventListener("change", () => {
        decide([row], list.value);
        for (const other of everyRowOf([row])) redraw(other);
        focusOn(row);
      });
      return list;
    }
    const input = element("input", { ariaLabel: about, value: held ? held[part] : "", disabled: !held });
    input.addEventListener("input", () => { decisions.get(row)[part] = input.value; keep(); });
    return input;
  }

  function draw(afresh = false) {
    const grid = byId("grid");
    const first = Math.max(0, Math.floor(grid.scrollTop / HEIGHT) - 8);
    const last = Math.min(shown.length, Math.ceil((grid.scrollTop + grid.clientHeight) / HEIGHT) + 8);
    if (afresh) {
      alive.clear();
      body.replaceChildren(above, below);
    }
    for (const [index, line] of alive) {
      if (index < first || index >= last) {
        line.remove();
        alive.delete(index);
      }
    }
    let next = above;
    for (let index = first; index < last; index++) {
      let line = alive.get(index);
      if (!line) {
        line = makeRow(shown[index]);
        line.setAttribute("aria-rowindex", index + 2);
        alive.set(index, line);
        next.after(line);
      }
      next = line;
    }
    above.firstChild.style.height = `${first * HEIGHT}px`;
    below.firstChild.style.height = `${(shown.length - last) * HEIGHT}px`;
    byId("rows").setAttribute("aria-rowcount", shown.length + 1);
    if (!shown.length) below.before(element("tr", {}, element("td", { className: "none", colSpan: COLUMNS.length }, "No row fits these filters.")));
  }

  function redraw(row) {
    const index = shown.indexOf(row);
    const line = alive.get(index);
    if (!line) return;
    const made = makeRow(row);
    made.setAttribute("aria-rowindex", index + 2);
    line.replaceWith(made);
    alive.set(index, made);
  }

  function focusOn(row) {
    const line = alive.get(shown.indexOf(row));
    if (line) line.querySelector("select").focus();
  }

  // --- decisions ----------------------------------------------------------------------------------

  const place0 = `aha-review:${data.account}:${data.review}:${data.population}`;

  function decide(chosen, decision) {
    const reviewer = byId("reviewer").value.trim();
    const whole = decision === ACCOUNT ? everyRowOf(chosen) : chosen;
    for (const row of whole) {
      if (!decision) decisions.delete(row);
      else decisions.set(row, { reviewer, note: "", ...decisions.get(row), decision });
    }
    if (decision && decision !== ACCOUNT) {
      // An account can't be taken and a role in it kept: what contradicts is open again.
      for (const row of everyRowOf(chosen)) {
        if ((decisions.get(row) || {}).decision === ACCOUNT) decisions.delete(row);
      }
    }
    decided();
    keep();
  }

  function everyRowOf(chosen) {
    const whose = new Set(chosen.map((row) => rows.person[row]));
    return Array.from({ length: size }, (_, row) => row).filter((row) => whose.has(rows.person[row]));
  }

  function decided() {
    const open = size - decisions.size;
    byId("decided").textContent = open ? `${number(open)} of ${number(size)} rows undecided` : "All rows are decided";
    byId("submit").disabled = open > 0 || data.total > size;
    countChips();
  }

  // A browser that keeps nothing for this page loses only what wasn't downloaded.
  function keep() {
    try {
      localStorage.setItem(place0, JSON.stringify([...decisions].map(([row, held]) => [key(row), held])));
    } catch {
      unsaved = true;
    }
  }
  let unsaved = false;

  function recall() {
    try {
      const held = new Map(JSON.parse(localStorage.getItem(place0) || "[]"));
      for (let row = 0; held.size && row < size; row++) {
        if (held.has(key(row))) decisions.set(row, held.get(key(row)));
      }
    } catch {
      decisions.clear();
    }
  }

  function makeDecisions() {
    recall();
    let undo = null;
    byId("bulk-apply").addEventListener("click", () => {
      const choice = byId("bulk").value;
      if (!choice) return;
      undo = everyRowOf(shown).map((row) => [row, decisions.get(row)]);
      decide(shown, choice);
      byId("bulk-undo").hidden = false;
      draw(true);
    });
    byId("bulk-undo").addEventListener("click", () => {
      for (const [row, held] of undo) {
        if (held) decisions.set(row, held);
        else decisions.delete(row);
      }
      byId("bulk-undo").hidden = true;
      decided();
      keep();
      draw(true);
    });
    byId("submit").addEventListener("click", () => {
      download(Array.from({ length: size }, (_, row) => row), `decisions-${data.review}.csv`);
      unsaved = false;
    });
    byId("decide").addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("beforeunload", (event) => { if (unsaved && decisions.size) event.preventDefault(); });
    decided();
  }

  // --- files --------------------------------------------------------------------------------------

  const FORMULA = /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]/;
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

  function cell(value) {
    const plain = String(value ?? "").replace(HIDDEN, "\ufffd").replaceAll(";", ",");
    return `"${(FORMULA.test(plain) ? `'${plain}` : plain).replaceAll('"', '""')}"`;
  }

  function download(chosen, name) {
    const values = {
      review_id: () => data.review, population_sha256: () => data.population, row_key: key, account: () => data.account,
      person: text.person, email: text.email, status: (row) => people.status[rows.person[row]],
      last_seen: (row) => asDate(people.seen[rows.person[row]]), created: (row) => asDate(people.created[rows.person[row]]),
      seat: (row) => (people.seat[rows.person[row]] ? "paid" : "free"), workspace: text.workspace, role: text.role,
      sign_in: text.sign_in, in_roster: (row) => words[people.roster[rows.person[row]]],
      since_last_review: (row) => words[rows.changed[row]], suggestion: text.suggestion, why: text.why,
      decision: (row) => (decisions.get(row) || {}).decision, reviewer: (row) => (decisions.get(row) || {}).reviewer,
      note: (row) => (decisions.get(row) || {}).note,
    };
    const lines = [data.csv, ...chosen.map((row) => data.csv.map((column) => values[column](row)))];
    const file = new Blob(["\ufeff", ...lines.map((line) => `${line.map(cell).join(",")}\r\n`)], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(file), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // --- paper --------------------------------------------------------------------------------------

  const ON_PAPER = 400;

  function print() {
    const chosen = shown.slice(0, ON_PAPER);
    const columns = COLUMNS.filter((column) => column.parts[0] in text || column.parts[0] === "decision");
    const line = (row) => element("tr", {}, ...columns.map((column) => element("td", {},
      ...(column.parts[0] in text ? column.parts.map((part) => fact(part, row)) : [(decisions.get(row) || { decision: "" }).decision]))));
    const rest = shown.length - chosen.length;
    byId("printed").replaceChildren(
      element("table", { className: "plain" },
        element("thead", {}, element("tr", {}, ...columns.map((column) => element("th", { scope: "col" }, column.label)))),
        element("tbody", {}, ...chosen.map(line))),
      ...(rest > 0 ? [element("p", { className: "aside" }, `${number(rest)} more rows are in access_review.csv.`)] : []));
  }
  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", () => byId("printed").replaceChildren());

  // --- begin --------------------------------------------------------------------------------------

  makeHead();
  makeFilters();
  if (data.review) makeDecisions();
  readAddress();
  countChips();
  byId("export").addEventListener("click", () => download(shown, "access_review.csv"));
  byId("grid").addEventListener("scroll", () => requestAnimationFrame(() => draw()), { passive: true });
  window.addEventListener("resize", () => draw());
  update(false);
})();
