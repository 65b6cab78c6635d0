"use strict";
// Draws what a click chose over the whole width: what lies below it as wide, what it called in proportion, all else not.
const WIDTH = 1200, CHARACTER = 7.2;
const all = [...document.querySelectorAll(".f")].map((g) => ({
  g, x: Number(g.dataset.x), w: Number(g.dataset.w), r: Number(g.dataset.r),
  rect: g.querySelector("rect"), text: g.querySelector("text"),
}));

function zoom(to) {
  const scale = WIDTH / to.w, end = to.x + to.w, some = 0.001;
  for (const one of all) {
    const around = one.r <= to.r && one.x <= to.x + some && one.x + one.w >= end - some;
    const inside = one.r >= to.r && one.x >= to.x - some && one.x + one.w <= end + some;
    one.g.style.display = around || inside ? "" : "none";
    if (!around && !inside) continue;
    const x = around ? 0 : (one.x - to.x) * scale;
    const w = around ? WIDTH : one.w * scale;
    one.rect.setAttribute("x", x);
    one.rect.setAttribute("width", w);
    one.text.setAttribute("x", x + 3);
    const name = one.text.dataset.n, room = Math.floor(Math.max(0, w - 6) / CHARACTER);
    one.text.textContent = name.length <= room ? name : room < 3 ? "" : name.slice(0, room - 1) + "…";
  }
}

const said = document.getElementById("said"), help = said.textContent;
for (const one of all) {
  const tell = () => { said.textContent = one.g.querySelector("title").textContent; };
  one.g.addEventListener("click", () => zoom(one));
  one.g.addEventListener("keydown", (event) => { if (event.key === "Enter") zoom(one); });
  one.g.addEventListener("mouseenter", tell);
  one.g.addEventListener("focus", tell);
  one.g.addEventListener("mouseleave", () => { said.textContent = help; });
}
