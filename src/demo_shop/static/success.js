// The buyer is back from the payment window. Have the payment confirmed, once, and stay until its outcome is known.
//
// Reloading, the back button and a second tab are harmless: the payment is read first, only an undecided one is
// confirmed, and confirming it again repeats the recorded result. A lost answer is never shown as a failure.

import { call, inKorean, isKorean, isPassing } from "./api.js";

const result = document.querySelector("[data-testid=result]");
const { orderId, amount, paymentKey, paymentsUrl } = result.dataset;
const banks = JSON.parse(result.dataset.banks);
const part = (name) => result.querySelector(`[data-part=${name}]`);

const CONFIRM_TIMEOUT_MS = 60_000; // longer than the payments API waits for Toss
const FIRST_PAUSE = 1; // seconds
const LONGEST_PAUSE = 15;
const DEPOSIT_PAUSE = 15; // a deposit takes minutes

const DECIDED = Symbol("decided");

// ── What the page says ──────────────────────────────────────────────────────────────────────────

function show(state, title, text, { reason = "", tryAgain = false, receiptUrl = null, account = null } = {}) {
  part("title").textContent = title;
  part("text").textContent = text;
  part("text").hidden = text === "";
  part("reason").textContent = reason;
  part("reason").hidden = reason === "";
  part("try-again").hidden = !tryAgain;
  showReceipt(receiptUrl);
  showAccount(account);
  result.dataset.state = state; // last, so that whoever waits for the state finds the words in place
}

function showReceipt(url) {
  const isWebLink = /^https?:\/\//.test(url ?? "");
  part("receipt").hidden = !isWebLink;
  if (isWebLink) part("receipt").href = url;
}

function showAccount(account) {
  part("account").hidden = account === null;
  if (account === null) return;
  part("bank").textContent = banks[account.bank] ?? account.bank;
  part("account-number").textContent = account.accountNumber;
  part("holder").textContent = account.holder || "-";
  part("due").textContent = account.dueDate ? inSeoul(account.dueDate) : "-";
}

function inSeoul(moment) {
  return new Intl.DateTimeFormat("sv-SE", { timeZone: "Asia/Seoul", dateStyle: "short", timeStyle: "short" }).format(
    new Date(moment),
  );
}

function showPending() {
  show("pending", "결제를 확인하고 있습니다", "결과가 나올 때까지 잠시만 기다려 주세요. 다시 결제하지 마세요.");
}

function showNoConnection() {
  show(
    "pending",
    "결제를 확인하고 있습니다",
    "연결이 고르지 않아 결과를 다시 확인하고 있습니다. 창을 닫아도 결제 결과는 주문 내역에 남습니다. 다시 결제하지 마세요.",
  );
}

function showRefused(message) {
  const reason = isKorean(message) ? message : "결제가 승인되지 않았습니다.";
  show("refused", "결제가 거절되었습니다", "청구된 금액은 없습니다. 다른 카드나 결제수단으로 다시 결제하실 수 있습니다.", {
    reason,
    tryAgain: true,
  });
}

// ── What an answer means: DECIDED, or the seconds until it is worth asking again (null: back off) ───

function decided(...words) {
  show(...words);
  return DECIDED;
}

function undecided(words, seconds = null) {
  words();
  return seconds;
}

function isOurPayment(body) {
  return body?.orderId === orderId && body.amount === Number(amount);
}

async function judge(answer) {
  const { status, body, retryAfter } = answer;
  if (isPassing(answer) || body?.code === "concurrent_update") return undecided(showNoConnection, retryAfter);
  if (status === 402) {
    showRefused(body?.pgMessage);
    return DECIDED;
  }
  if (status !== 200 && status !== 202) return decided("error", "결제를 완료하지 못했습니다", inKorean(answer));
  if (typeof body?.status !== "string") return undecided(showNoConnection);
  if (!isOurPayment(body)) return decided("error", "결제 정보가 주문과 다릅니다", "고객센터로 문의해 주세요.");
  return judgePayment(body, retryAfter);
}

async function judgePayment(payment, retryAfter) {
  switch (payment.status) {
    case "COMPLETED":
    case "PARTIALLY_REFUNDED":
    case "REFUNDED":
      return tellShop(payment);
    case "FAILED":
      showRefused(payment.failure?.message);
      return DECIDED;
    case "CANCELLED":
      return decided("error", "취소된 주문입니다", "새로 주문해 주세요.");
    case "WAITING_FOR_DEPOSIT":
      show("waiting", "입금을 기다리고 있습니다", "아래 계좌로 정확한 금액을 입금해 주세요. 입금이 확인되면 결제가 완료됩니다.", {
        account: payment.virtualAccount,
      });
      return DEPOSIT_PAUSE;
    default:
      return undecided(showPending, retryAfter);
  }
}

/** The shop's server looks at the payment itself; this page's word counts for nothing. */
async function tellShop({ receiptUrl }) {
  const { status, body } = await call(`/orders/${orderId}/refresh`, { method: "POST" });
  if (status !== 200 || body?.knowledge === "UNKNOWN") return undecided(showNoConnection);
  switch (body?.orderStatus) {
    case "PAID":
      return decided("completed", "결제가 완료되었습니다", "주문해 주셔서 고맙습니다.", { receiptUrl });
    case "PARTIALLY_REFUNDED":
      return decided("completed", "결제가 완료되었습니다", "일부 금액이 환불된 주문입니다.", { receiptUrl });
    case "REFUNDED":
      return decided("completed", "환불된 주문입니다", "결제하신 금액이 모두 환불되었습니다.", { receiptUrl });
  }
  if (body?.knowledge === "MISMATCH") return decided("error", "결제 정보가 주문과 다릅니다", "고객센터로 문의해 주세요.");
  return undecided(showPending);
}

// ── Asking ──────────────────────────────────────────────────────────────────────────────────────

const look = () => call(`${paymentsUrl}/payments/orders/${orderId}`);

function confirm() {
  const body = { paymentKey, orderId, amount: Number(amount) };
  return call(`${paymentsUrl}/payments/confirm`, { method: "POST", body, timeoutMs: CONFIRM_TIMEOUT_MS });
}

async function ask() {
  const seen = await look();
  if (seen.status !== 200 || seen.body?.status !== "CREATED" || !isOurPayment(seen.body)) return seen;
  const answer = await confirm();
  if (answer.status !== 409) return answer;
  // Refused because of a state that we did not see: another tab or our own server was faster. See it now.
  const after = await look();
  return after.status === 200 && after.body?.status !== "CREATED" ? after : answer;
}

async function settle() {
  for (let round = 0; ; round += 1) {
    const verdict = await judge(await ask());
    if (verdict === DECIDED) return;
    await pause(verdict === null ? backOff(round) : Math.min(Math.max(verdict, FIRST_PAUSE), 60));
  }
}

function backOff(round) {
  const seconds = Math.min(FIRST_PAUSE * 1.6 ** Math.min(round, 10), LONGEST_PAUSE);
  return seconds * (0.8 + 0.4 * Math.random()); // many buyers must not come back at the same moment
}

/** Waits, but not longer than until the network or the buyer is back. */
function pause(seconds) {
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

settle();
