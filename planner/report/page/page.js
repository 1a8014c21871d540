"use strict";
// What the page can do beyond being read: a theme, words where one points, the front to explore.
// Text goes in as text only; nothing is fetched and nothing is kept.
(() => {
  const root = document.documentElement;
  const one = (query, within = document) => within.querySelector(query);
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const made = (name, text = "", kind = "") => {
    const element = document.createElement(name);
    element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  root.classList.add("js");

  // ---- Light and dark --------------------------------------------------------------------------
  const theme = one("#theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.hidden = false;
  nameTheme();
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);

  // ---- Printing shows all that is folded -------------------------------------------------------
  addEventListener("beforeprint", () => all("details:not([open])").forEach((folded) => {
    folded.open = true;
    folded.dataset.folded = "";
  }));
  addEventListener("afterprint", () => all("details[data-folded]").forEach((unfolded) => {
    unfolded.open = false;
    delete unfolded.dataset.folded;
  }));

  // ---- What is wider than the page scrolls, with the keyboard, too ------------------------------
  const markScrolling = () => all(".scroll").forEach((box) => {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    const name = one("caption", box)?.textContent ?? "";
    [["tabindex", "0"], ["role", "group"], ["aria-label", name]].forEach(([key, value]) =>
      scrolls ? box.setAttribute(key, value) : box.removeAttribute(key));
  });
  markScrolling();
  addEventListener("resize", markScrolling);
  addEventListener("toggle", markScrolling, true);

  // ---- Words where one points ------------------------------------------------------------------
  const tip = one("#tip");
  const hideTip = () => { tip.hidden = true; };
  const showTip = (mark, x, y) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    // Beside the pointer, but not over what stands beside the drawing.
    const end = Math.min(mark.closest("figure")?.getBoundingClientRect().right ?? Infinity, root.clientWidth - 8);
    const left = Math.min(x + 14, end - width);
    const top = y - height - 12 < 0 ? y + 18 : y - height - 12;
    tip.style.left = `${Math.max(8, left) + scrollX}px`;
    tip.style.top = `${top + scrollY}px`;
  };
  const tipOf = (event) => event.target instanceof Element ? event.target.closest("[data-tip]") : null;
  addEventListener("pointermove", (event) => {
    const mark = tipOf(event);
    if (mark) showTip(mark, event.clientX, event.clientY); else hideTip();
  });
  addEventListener("focusin", (event) => {
    const mark = tipOf(event);
    if (!mark || !mark.matches(":focus-visible")) return;
    const box = mark.getBoundingClientRect();
    showTip(mark, box.right, box.top);
  });
  addEventListener("focusout", hideTip);
  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

  // ---- Where one reads -------------------------------------------------------------------------
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
    if (!isIntersecting) return;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(target.id)?.setAttribute("aria-current", "true");
  }), { rootMargin: "-15% 0px -75% 0px" });
  all("main > section").forEach((section) => seen.observe(section));

  // ---- The front -------------------------------------------------------------------------------
  const data = JSON.parse(one("#data").textContent);
  const explorer = one("#explorer");
  if (!explorer || !data.points.length) return;
  const said = one("#said");
  const rows = all("#front-table tbody tr");
  const place = new Map(data.order.map((point, n) => [point, n]));
  const pools = [...new Set(data.points.flatMap((point) => Object.keys(point.deployment)))].sort();
  let pinned = null;
  let shown = null;

  const nameOf = (point) => point === data.chosen ? "this plan" : `no. ${place.get(point) + 1}`;
  const say = (text) => { said.textContent = text; };

  // A table: the plan on the left, what is looked at on the right.
  const compare = (point) => {
    const plan = data.chosen === null ? null : data.points[data.chosen];
    const other = point === null ? null : data.points[point];
    const table = made("table");
    const caption = made("caption", "The deployment that is looked at, beside the plan", "unseen");
    const head = table.createTHead().insertRow();
    const body = table.createTBody();
    const title = point === null ? "pointed at" : nameOf(point);
    const columns = plan ? ["", "this plan", title] : ["", title];
    columns.forEach((name, n) => {
      const cell = made("th", name, n ? "n" : "");
      cell.scope = "col";
      head.append(cell);
    });
    const line = (name, ours, theirs) => {
      const row = body.insertRow();
      const first = made("th", name);
      first.scope = "row";
      row.append(first);
      if (plan) row.append(made("td", ours, "n"));
      row.append(made("td", theirs, plan && other && ours !== theirs ? "n differs" : "n"));
    };
    const part = (name) => {
      const cell = made("th", name);
      cell.colSpan = columns.length;
      cell.scope = "rowgroup";
      const row = body.insertRow();
      row.className = "part";
      row.append(cell);
    };
    data.columns.forEach((name, n) => line(name, plan ? plan.figures[n] : "", other ? other.figures[n] : "-"));
    const most = pools.length > 14
      ? pools.filter((pool) => plan?.deployment[pool] || other?.deployment[pool])
      : pools;
    part("Replicas");
    const replicas = (of, pool) => of && of.deployment[pool] ? `${of.deployment[pool]}` : "-";
    most.forEach((pool) => line(pool, replicas(plan, pool), replicas(other, pool)));
    table.prepend(caption);
    const scroll = made("div", "", "scroll");
    scroll.append(table);
    one("#compared").replaceChildren(scroll);
  };

  const ring = (point, kind) => all(`g[data-point="${point}"]`, explorer).forEach((mark) => {
    const box = mark.getBBox();
    if (!box.width) return; // in a drawing that is not shown
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    circle.setAttribute("class", `ring ${kind}`);
    circle.setAttribute("cx", box.x + box.width / 2);
    circle.setAttribute("cy", box.y + box.height / 2);
    circle.setAttribute("r", 11);
    mark.append(circle);
  });
  const redraw = () => {
    all(".ring", explorer).forEach((old) => old.remove());
    if (pinned !== null) ring(pinned, "pinned");
    if (shown !== null && shown !== pinned) ring(shown, "shown");
    rows.forEach((row, n) => row.classList.toggle("pointed", [shown, pinned].includes(data.order[n])));
    all("g[data-point]", explorer).forEach((mark) =>
      mark.setAttribute("aria-pressed", String(Number(mark.dataset.point) === pinned)));
  };
  const show = (point) => {
    if (shown === point) return;
    shown = point;
    compare(point ?? pinned);
    redraw();
  };
  const pin = (point) => {
    pinned = pinned === point ? null : point;
    compare(shown ?? pinned);
    redraw();
    const mark = one(`g[data-point="${point}"]`, explorer);
    const words = mark?.dataset.tip ?? "";
    say(pinned === null ? `Let go: ${nameOf(point)}.` : `Kept beside the plan: ${nameOf(point)}. ${words}`);
  };

  // The points of a drawing: one stop of Tab, the arrow keys between them, from left to right.
  const marksOf = (svg) => all("g[data-point]", svg).sort((a, b) => {
    const [p, q] = [a.getBBox(), b.getBBox()];
    return p.x + p.width / 2 - q.x - q.width / 2 || q.y - p.y;
  });
  const pointOf = (event) => event.target instanceof Element ? event.target.closest("#explorer g[data-point]") : null;
  const makeStop = (svg, stop) => all("g[data-point]", svg).forEach((mark) =>
    mark.setAttribute("tabindex", mark === stop ? "0" : "-1"));
  all("svg", explorer).forEach((svg) => {
    svg.setAttribute("role", "group"); // an image has no parts that can be pressed
    const marks = all("g[data-point]", svg);
    marks.forEach((mark) => {
      mark.setAttribute("role", "button");
      mark.setAttribute("aria-label", `${nameOf(Number(mark.dataset.point))}: ${mark.dataset.tip ?? ""}`);
    });
    makeStop(svg, marks.find((mark) => Number(mark.dataset.point) === data.chosen) ?? marks[0]);
  });
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  addEventListener("keydown", (event) => { // wherever the focus is: a mouse has none
    if (event.key === "Escape" && pinned !== null) pin(pinned);
  });
  explorer.addEventListener("keydown", (event) => {
    const mark = pointOf(event);
    if (!mark) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pin(Number(mark.dataset.point));
      return;
    }
    const marks = marksOf(mark.ownerSVGElement);
    const at = marks.indexOf(mark);
    const to = event.key === "Home" ? 0 : event.key === "End" ? marks.length - 1 : at + (steps[event.key] ?? 0);
    if (to === at || !marks[to]) return;
    event.preventDefault();
    makeStop(mark.ownerSVGElement, marks[to]);
    marks[to].focus();
  });
  explorer.addEventListener("click", (event) => {
    const mark = pointOf(event);
    if (!mark) return;
    makeStop(mark.ownerSVGElement, mark);
    pin(Number(mark.dataset.point));
  });
  explorer.addEventListener("pointerover", (event) => {
    const mark = pointOf(event);
    show(mark ? Number(mark.dataset.point) : null);
  });
  explorer.addEventListener("pointerleave", () => show(null));
  explorer.addEventListener("focusin", (event) => {
    const mark = pointOf(event);
    if (mark) show(Number(mark.dataset.point));
  });
  explorer.addEventListener("focusout", () => show(null));
  rows.forEach((row, n) => {
    row.addEventListener("pointerenter", () => show(data.order[n]));
    row.addEventListener("pointerleave", () => show(null));
  });

  const tabs = all("[data-pair]", one(".tabs", explorer));
  const open = (pair, aloud) => {
    all(".panel", explorer).forEach((panel) => panel.classList.toggle("open", panel.dataset.pair === pair));
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.pair === pair)));
    redraw();
    if (aloud) say(`Axes: ${tabs.find((tab) => tab.dataset.pair === pair).textContent}.`);
  };
  tabs.forEach((tab) => tab.addEventListener("click", () => open(tab.dataset.pair, true)));
  if (tabs.length) open(tabs[0].dataset.pair, false);
  compare(null);
  addEventListener("resize", redraw);
})();
