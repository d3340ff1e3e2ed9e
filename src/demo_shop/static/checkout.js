// Checkout: prepare the payment with our payments API, then open the window of Toss Payments with what it answered.

import { call, inKorean, isKorean } from "./api.js";

const form = document.getElementById("checkout");
const { flow, orderId, orderName, amount, paymentsUrl, successUrl, failUrl } = form.dataset;
const payButton = form.querySelector("[data-testid=pay]");
const showMethodsButton = form.querySelector("[data-testid=show-methods]");
const error = form.querySelector("[data-testid=checkout-error]");

// The window replaces this page. If it does not, the buyer has stopped it, and may press the button again.
const WINDOW_OPENS_WITHIN_MS = 15_000;

// Refusals for which the order's own page says more than this one can.
const SEE_ORDER = new Set(["already_paid", "awaiting_deposit", "order_not_payable", "payment_closed", "payment_in_progress"]);

// How the SDK calls what the payments API calls a method. A wallet is a card window that goes straight to the wallet.
const SDK_METHODS = {
  CARD: { method: "CARD", card: { useEscrow: false, flowMode: "DEFAULT", useCardPoint: false, useAppCardOnly: false } },
  EASY_PAY: { method: "CARD", card: { useEscrow: false, flowMode: "DIRECT", easyPay: "토스페이" } },
  TRANSFER: { method: "TRANSFER", transfer: { cashReceipt: { type: "소득공제" }, useEscrow: false } },
  VIRTUAL_ACCOUNT: { method: "VIRTUAL_ACCOUNT", virtualAccount: { cashReceipt: { type: "소득공제" }, useEscrow: false, validHours: 24 } },
  MOBILE_PHONE: { method: "MOBILE_PHONE" },
  GIFT_CERTIFICATE: { method: "CULTURE_GIFT_CERTIFICATE" },
};

const SDK_REFUSALS = {
  USER_CANCEL: "결제를 취소하셨습니다.",
  PAY_PROCESS_CANCELED: "결제를 취소하셨습니다.",
  NEED_AGREEMENT_WITH_REQUIRED_TERMS: "필수 약관에 동의해 주세요.",
  NOT_SELECTED_PAYMENT_METHOD: "결제수단을 골라 주세요.",
  NOT_SUPPORTED_API_INDIVIDUAL_KEY:
    "이 상점의 키로는 결제위젯을 쓸 수 없습니다. 결제창으로 결제해 주세요. (The widgets need a client key test_gck_…)",
  NOT_SUPPORTED_WIDGET_KEY:
    "이 상점의 키로는 결제창을 쓸 수 없습니다. 결제위젯으로 결제해 주세요. (The payment window needs a client key test_ck_…)",
};

/** A refusal in words for the buyer. */
class Refusal extends Error {
  constructor(message, { code = "unknown", seeOrder = false } = {}) {
    super(message);
    this.code = code;
    this.seeOrder = seeOrder;
  }
}

async function saveEmail(email) {
  const answer = await call(`/orders/${orderId}/email`, { method: "PUT", body: { customerEmail: email } });
  if (answer.status === 204) return;
  if (answer.status === 409) throw new Refusal("지금은 결제할 수 없는 주문입니다.", { code: "order_not_payable", seeOrder: true });
  if (answer.status === 422) throw new Refusal("이메일 주소를 확인해 주세요.", { code: "invalid_email" });
  throw new Refusal("상점에 연결하지 못했습니다. 잠시 뒤에 다시 시도해 주세요.", { code: "shop_unavailable" });
}

async function prepare() {
  if (!form.reportValidity()) throw new Refusal("이메일 주소를 확인해 주세요.", { code: "invalid_email" });
  const customerEmail = form.elements.email.value.trim();
  await saveEmail(customerEmail);
  // A widget lets the buyer choose later; what was really used is known after the payment.
  const method = form.elements.method?.value ?? "CARD";
  const body = { orderId, amount: Number(amount), method, customerEmail, orderName, successUrl, failUrl };
  const answer = await call(`${paymentsUrl}/payments/prepare`, { method: "POST", body, timeoutMs: 20_000 });
  if ((answer.status === 200 || answer.status === 201) && answer.body?.clientKey) return answer.body;
  const code = answer.body?.code ?? `http_${answer.status}`;
  throw new Refusal(inKorean(answer), { code, seeOrder: SEE_ORDER.has(code) });
}

function toss(clientKey) {
  if (typeof window.TossPayments !== "function") {
    throw new Refusal("결제창을 불러오지 못했습니다. 페이지를 새로 고쳐 주세요.", { code: "sdk_not_loaded" });
  }
  return window.TossPayments(clientKey);
}

function order(prepared) {
  return {
    orderId: prepared.orderId,
    orderName: prepared.orderName,
    customerEmail: prepared.customerEmail,
    successUrl: prepared.successUrl,
    failUrl: prepared.failUrl,
  };
}

const price = (prepared) => ({ currency: prepared.currency, value: prepared.amount });

async function openPaymentWindow() {
  const prepared = await prepare();
  const payment = toss(prepared.clientKey).payment({ customerKey: window.TossPayments.ANONYMOUS });
  await payment.requestPayment({ ...SDK_METHODS[prepared.method], amount: price(prepared), ...order(prepared) });
}

let widgets = null;

async function showWidgets() {
  const prepared = await prepare();
  const drawn = toss(prepared.clientKey).widgets({ customerKey: window.TossPayments.ANONYMOUS });
  await drawn.setAmount(price(prepared));
  await Promise.all([
    drawn.renderPaymentMethods({ selector: "#payment-methods", variantKey: "DEFAULT" }),
    drawn.renderAgreement({ selector: "#agreement", variantKey: "AGREEMENT" }),
  ]);
  widgets = drawn;
  showMethodsButton.hidden = true;
  payButton.hidden = false;
}

async function openWidgetsWindow() {
  if (!widgets) return;
  // Prepared again: an hour may lie between choosing and paying, and repeating it changes nothing.
  await widgets.requestPayment(order(await prepare()));
}

function setBusy(isBusy) {
  for (const button of [payButton, showMethodsButton]) if (button) button.disabled = isBusy;
  payButton.querySelector("[data-part=idle]").hidden = isBusy;
  payButton.querySelector("[data-part=busy]").hidden = !isBusy;
}

function explain(cause) {
  const known = cause instanceof Refusal ? cause.message : SDK_REFUSALS[cause?.code];
  const words = known ?? (isKorean(cause?.message) ? cause.message : "결제창을 열지 못했습니다. 다시 시도해 주세요.");
  error.dataset.code = cause?.code ?? "unknown";
  error.querySelector("[data-part=text]").textContent = words;
  error.querySelector("[data-part=link]").hidden = !cause?.seeOrder;
  error.hidden = false;
}

async function run(work, { leavesPage }) {
  if (payButton.disabled) return;
  error.hidden = true;
  setBusy(true);
  try {
    await work();
    if (leavesPage) setTimeout(() => setBusy(false), WINDOW_OPENS_WITHIN_MS);
    else setBusy(false);
  } catch (cause) {
    setBusy(false);
    explain(cause);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run(flow === "widgets" ? openWidgetsWindow : openPaymentWindow, { leavesPage: true });
});
showMethodsButton?.addEventListener("click", () => run(showWidgets, { leavesPage: false }));

// The back button may bring this page back as it was left: with a disabled button.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) setBusy(false);
});

setBusy(false); // the buttons wait for this script: without it the form would send the address in a URL
