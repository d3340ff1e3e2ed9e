// Somebody looks at an order while its payment moves on: draw the page anew as soon as our own server was told of it.

import { backOff, becomesVisible, isNews, pause } from "./waiting.js";

const { orderId, version } = document.querySelector("[data-testid=order]").dataset;
let isBusy = false;

// What somebody has typed or sent must not be lost.
for (const event of ["input", "submit"]) document.addEventListener(event, () => (isBusy = true));

async function watch() {
  for (let round = 0; ; round += 1) {
    await pause(backOff(round, { first: 2 }));
    await becomesVisible();
    if (isBusy) return;
    if ((await isNews(orderId, version)) && !isBusy) {
      location.reload();
      return;
    }
  }
}

watch();
