// How a page waits for news: with growing pauses, and only while somebody looks at it.

import { call } from "./api.js";

/** Seconds until the next look, after so many that brought nothing. */
export function backOff(round, { first = 1, longest = 15 } = {}) {
  const seconds = Math.min(first * 1.6 ** Math.min(round, 10), longest);
  return seconds * (0.8 + 0.4 * Math.random()); // many buyers must not come back at the same moment
}

/** Waits, but not longer than until the network or the buyer is back. */
export function pause(seconds) {
  return new Promise((resolve) => {
    const wakers = [
      [window, "online"],
      [document, "visibilitychange"],
    ];
    const wake = () => {
      clearTimeout(timer);
      for (const [target, event] of wakers) target.removeEventListener(event, wake);
      resolve();
    };
    const timer = setTimeout(wake, seconds * 1000);
    for (const [target, event] of wakers) target.addEventListener(event, wake);
  });
}

/** Waits until somebody looks at the page; true if nobody did. */
export async function becomesVisible() {
  if (!document.hidden) return false;
  await new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
  return true;
}

/** Whether our own server has been told more of an order's payment than that version. It asks nobody for it. */
export async function isNews(orderId, version) {
  const { status, body } = await call(`/orders/${orderId}/state`);
  return status === 200 && Number.isInteger(body?.paymentVersion) && body.paymentVersion !== Number(version);
}
