"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  // a link to something in a folded part unfolds it
  const unfold = () => {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { return; }
    const target = document.getElementById(name);
    const folded = target && target.closest("details");
    if (!folded) return;
    folded.hidden = false;
    folded.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();

  const form = document.querySelector("form.filter");
  if (form) {
    const claims = all("details.claim").map((node) => [node, node.textContent.toLowerCase()]);
    const filter = () => {
      const chosen = new FormData(form);
      const verdicts = chosen.getAll("verdict");
      const words = chosen.get("text").toLowerCase().split(/\s+/);
      let shown = 0;
      for (const [node, text] of claims) {
        const fits = verdicts.includes(node.dataset.verdict)
          && [node.dataset.paper, ""].includes(chosen.get("paper"))
          && words.every((word) => text.includes(word));
        node.hidden = !fits;
        shown += fits;
      }
      form.querySelector("output").textContent = `${shown} of ${claims.length} claims`;
    };
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }

  const dialog = document.getElementById("large");
  const room = dialog.querySelector(".room");
  let home = null;
  dialog.addEventListener("close", () => home && home.prepend(...room.childNodes));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  for (const figure of all("section.figure > figure")) {
    const button = document.createElement("button");
    button.textContent = "Enlarge";
    button.className = "enlarge";
    button.setAttribute("aria-label", `Enlarge: ${figure.parentNode.querySelector("h3").textContent}`);
    button.addEventListener("click", () => {
      home = figure;
      room.append(figure.firstElementChild);
      dialog.showModal();
    });
    figure.append(button);
  }
})();
