// The buyer is back from the payment window. Have the payment confirmed, once, and stay until its outcome is known.
//
// Reloading, the back button and a second tab are harmless: confirming again repeats the recorded result. While the
// outcome is not known the payment is only read. A lost answer is never shown as a failure.

import { call, inKorean, isKorean, isPassing } from "./api.js";
import { backOff, becomesVisible, isNews, pause } from "./waiting.js";

const result = document.querySelector("[data-testid=result]");
const { orderId, amount, paymentKey, paymentsUrl } = result.dataset;
const hearsEvents = "hearsEvents" in result.dataset; // our server is told of changes
const banks = JSON.parse(result.dataset.banks);
const part = (name) => result.querySelector(`[data-part=${name}]`);

const CONFIRM_TIMEOUT_MS = 60_000; // longer than the payments API waits for Toss
const FIRST_PAUSE = 1; // seconds
const DEPOSIT_PAUSES = { first: 2, longest: 10 }; // seconds; many transfer the money while they look at the account
// Then the payment itself, each half minute: a due date passes and a wrong amount comes without an event.
const LOOKS_AT_OUR_OWN = 5;
// A bank that takes a deposit back usually does so within two minutes.
const REVERSAL_WATCH_MS = 10 * 60_000;

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

function showWaiting(account, { depositReversed = false, dueDatePassed = false }) {
  if (dueDatePassed) {
    show("overdue", "입금 기한이 지났습니다", "이 계좌로는 더 이상 입금하지 마세요. 기한 안에 입금하셨다면 확인되는 대로 알려 드립니다.");
  } else if (depositReversed) {
    const words = "은행이 입금을 되돌려 보냈습니다. 이체 한도 등을 확인하신 뒤 아래 계좌로 정확한 금액을 다시 입금해 주세요.";
    show("waiting", "다시 입금을 기다리고 있습니다", words, { account });
  } else {
    const words = "아래 계좌로 정확한 금액을 입금해 주세요. 입금이 확인되면 이 페이지가 저절로 바뀝니다.";
    show("waiting", "입금을 기다리고 있습니다", words, { account });
  }
}

function showDepositOver() {
  return decided("refused", "입금 기한이 지났습니다", "입금이 확인되지 않아 결제가 끝났습니다. 다시 결제하실 수 있습니다.", {
    tryAgain: true,
  });
}

/** Says that an order is paid; false if it is not. */
function showPaid(orderStatus, receiptUrl) {
  const words = {
    PAID: ["결제가 완료되었습니다", "주문해 주셔서 고맙습니다."],
    PARTIALLY_REFUNDED: ["결제가 완료되었습니다", "일부 금액이 환불된 주문입니다."],
    REFUNDED: ["환불된 주문입니다", "결제하신 금액이 모두 환불되었습니다."],
  }[orderStatus];
  if (words) show("completed", ...words, { receiptUrl });
  return words !== undefined;
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

/** What a page may read without asking for the money is the status alone, without an amount. */
function isOurPayment(body) {
  return body?.orderId === orderId && (body.amount === undefined || body.amount === Number(amount));
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
    case "COMPLETED": {
      const verdict = await tellShop(payment);
      return verdict === DECIDED && payment.virtualAccount ? watchDeposit(payment.virtualAccount) : verdict;
    }
    case "PARTIALLY_REFUNDED":
    case "REFUNDED":
      return tellShop(payment);
    case "FAILED":
      showRefused(payment.failure?.message);
      return DECIDED;
    case "CANCELLED":
      return decided("error", "취소된 주문입니다", "새로 주문해 주세요.");
    case "WAITING_FOR_DEPOSIT":
      showWaiting(payment.virtualAccount ?? null, {});
      return watchDeposit(payment.virtualAccount ?? null);
    default:
      return undecided(showPending, retryAfter);
  }
}

/** The shop's server looks at the payment itself; this page's word counts for nothing. */
async function tellShop({ receiptUrl }) {
  const { status, body } = await call(`/orders/${orderId}/refresh`, { method: "POST" });
  if (status === 200 && showPaid(body?.orderStatus, receiptUrl)) return DECIDED;
  if (status !== 200 || body?.knowledge === "UNKNOWN") return undecided(showNoConnection);
  if (body?.knowledge === "MISMATCH") return decided("error", "결제 정보가 주문과 다릅니다", "고객센터로 문의해 주세요.");
  return undecided(showPending);
}

// ── A deposit: our own server looks at the payment, again and again, while somebody looks at this page ───

async function watchDeposit(account) {
  let shown = {};
  let paidSince = null;
  for (let round = 0; ; round += 1) {
    const { status, body } = await call(`/orders/${orderId}/refresh`, { method: "POST" });
    const seen = status === 200 ? body : null;
    if (tellsMore(seen, shown)) {
      if (showDeposit(seen, account) === DECIDED) return DECIDED;
      shown = seen;
      paidSince = seen.orderStatus === "PAID" ? Date.now() : null;
      round = 0;
    }
    if (paidSince !== null && Date.now() - paidSince > REVERSAL_WATCH_MS) return DECIDED;
    if (await isWorthAskingAtOnce(seen, round)) round = 0;
  }
}

function tellsMore(seen, shown) {
  if (typeof seen?.orderStatus !== "string") return false;
  // Of a payment that cannot be read now, our own server still knows what it was told of it.
  if (seen.knowledge === "UNKNOWN") return seen.orderStatus !== (shown.orderStatus ?? "CREATED");
  return words(seen) !== words(shown); // a screen reader would read the same words out again
}

function words({ paymentVersion, ...said }) {
  return JSON.stringify(said);
}

/** Waits until the payment is worth another look; true if something may have happened since the last one. */
async function isWorthAskingAtOnce(seen, round) {
  const isTold = hearsEvents && seen !== null && seen.knowledge !== "UNKNOWN";
  for (let looks = 0; isTold && looks < LOOKS_AT_OUR_OWN; looks += 1) {
    await pause(backOff(looks, DEPOSIT_PAUSES));
    if ((await becomesVisible()) || (await isNews(orderId, seen.paymentVersion))) return true;
  }
  if (isTold) return false;
  await pause(backOff(round, DEPOSIT_PAUSES));
  return becomesVisible();
}

/** Says where the deposit stands; DECIDED when nothing more can come of it. */
function showDeposit({ knowledge, orderStatus, paymentStatus, receiptUrl, ...seen }, account) {
  if (knowledge === "MISMATCH") return decided("error", "결제 정보가 주문과 다릅니다", "고객센터로 문의해 주세요.");
  if (showPaid(orderStatus, receiptUrl)) return orderStatus === "PAID" ? null : DECIDED; // a bank may take it back
  if (orderStatus === "CANCELLED") return decided("error", "취소된 주문입니다", "이 계좌로 입금하지 마세요. 새로 주문해 주세요.");
  if (paymentStatus === "FAILED" || paymentStatus === "CREATED") return showDepositOver();
  if (seen.needsSupport) {
    show("error", "입금하신 금액이 주문 금액과 다릅니다", "더 입금하지 말고 고객센터로 문의해 주세요.");
    return null; // a bank may take it back, and the right amount may come
  }
  if (paymentStatus === "WAITING_FOR_DEPOSIT") showWaiting(account, seen);
  else showPending();
  return null;
}

// ── Asking ──────────────────────────────────────────────────────────────────────────────────────

const look = () => call(`${paymentsUrl}/payments/orders/${orderId}`);

function confirm() {
  const body = { paymentKey, orderId, amount: Number(amount) };
  return call(`${paymentsUrl}/payments/confirm`, { method: "POST", body, timeoutMs: CONFIRM_TIMEOUT_MS });
}

async function ask() {
  const seen = await look();
  if (seen.status !== 200 || seen.body?.status === "PENDING" || !isOurPayment(seen.body)) return seen;
  // Of a payment that is decided it brings back what is recorded, to whoever has its key, and takes nothing.
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

settle();
