/*
 * A stand-in for Toss Payments' browser SDK (v2 standard) that talks to the sandbox it was loaded from.
 * The interface, the order of calls and the error codes are those of the real SDK.
 */
(() => {
  "use strict";

  const SANDBOX = new URL(document.currentScript.src).origin;
  const RESULT_PATH = "/sandbox/window/result";
  const ANONYMOUS = "@@ANONYMOUS";

  const MESSAGES = {
    AGREEMENT_WIDGET_ALREADY_RENDERED: "하나의 약관 위젯만을 사용할 수 있어요.",
    BELOW_ZERO_AMOUNT: "금액은 0보다 커야 합니다.",
    INCORRECT_FAIL_URL_FORMAT: "잘못된 failUrl 입니다.",
    INCORRECT_SUCCESS_URL_FORMAT: "잘못된 successUrl 입니다.",
    INSECURE_KEY_USAGE: "시크릿 키는 클라이언트 코드에 노출되면 안 됩니다. 구매자를 식별하는 customerKey 값을 사용해주세요.",
    INVALID_AMOUNT_CURRENCY: "잘못된 통화 값입니다.",
    INVALID_AMOUNT_VALUE: "결제금액이 올바르지 않습니다.",
    INVALID_CLIENT_KEY: "ClientKey 형태가 올바르지 않습니다.",
    INVALID_CUSTOMER_KEY: "고객키는 영문 대소문자, 숫자, 특수문자 -, _, =, ., @로 2자 이상 50자 이하여야 합니다.",
    INVALID_METHOD_TRANSACTION: "이미 다른 요청을 수행하고 있어요.",
    INVALID_PARAMETER: "허용하지 않는 이벤트이거나 콜백 함수가 올바르지 않습니다.",
    INVALID_PARAMETERS: "필수 파라미터를 누락했거나 파라미터의 형식이 올바르지 않습니다.",
    INVALID_SELECTOR: "selector에 해당하는 HTML 요소를 찾을 수 없습니다. selector 값을 다시 확인해주세요.",
    NEED_AGREEMENT_WITH_REQUIRED_TERMS: "필수 약관에 동의해주세요.",
    NOT_SELECTED_PAYMENT_METHOD: "결제수단이 아직 선택되지 않았어요. 결제수단을 선택해 주세요.",
    NOT_SETUP_AMOUNT: "결제금액이 설정되지 않았습니다. setAmount를 호출해주세요.",
    NOT_SUPPORTED_API_INDIVIDUAL_KEY:
      "결제위젯 연동 키의 클라이언트 키로 SDK를 연동해주세요. API 개별 연동 키는 지원하지 않습니다.",
    NOT_SUPPORTED_METHOD: "지원되지 않는 결제수단입니다.",
    NOT_SUPPORTED_PROMISE: "Promise 방식을 지원하지 않습니다. successUrl, failUrl을 사용해주세요.",
    NOT_SUPPORTED_WIDGET_KEY:
      "API 개별 연동 키의 클라이언트 키로 SDK를 연동해주세요. 결제위젯 연동 키는 지원하지 않습니다.",
    PAYMENT_METHODS_WIDGET_ALREADY_RENDERED: "하나의 결제수단 위젯만을 사용할 수 있어요.",
    UNKNOWN: "알 수 없는 에러가 발생했습니다.",
    USER_CANCEL: "취소되었습니다.",
  };

  class TossPaymentsError extends Error {
    constructor(code, message) {
      super(message || MESSAGES[code] || MESSAGES.UNKNOWN);
      this.name = "TossPaymentsError";
      this.code = code;
    }
  }

  const refuse = (code, message) => {
    throw new TossPaymentsError(code, message);
  };

  // ── What a caller may pass ────────────────────────────────────────────────────────────────────

  const REQUEST_METHODS = [
    "CARD",
    "TRANSFER",
    "VIRTUAL_ACCOUNT",
    "MOBILE_PHONE",
    "CULTURE_GIFT_CERTIFICATE",
    "BOOK_GIFT_CERTIFICATE",
    "GAME_GIFT_CERTIFICATE",
  ];

  function checkedClientKey(clientKey) {
    // Only test keys: a page with a live key must never be answered by something that takes no money.
    return /^test_g?ck_\w+$/.test(String(clientKey)) ? String(clientKey) : refuse("INVALID_CLIENT_KEY");
  }

  function checkCustomerKey(params) {
    const customerKey = params?.customerKey;
    if (customerKey === ANONYMOUS) return;
    if (/^(test|live)_g?sk_/.test(String(customerKey))) refuse("INSECURE_KEY_USAGE");
    if (typeof customerKey !== "string" || !/^[\w\-=.@]{2,50}$/.test(customerKey)) refuse("INVALID_CUSTOMER_KEY");
  }

  function checkedAmount(amount) {
    if (amount === null || typeof amount !== "object") refuse("INVALID_PARAMETERS");
    if (amount.currency !== "KRW") refuse("INVALID_AMOUNT_CURRENCY");
    if (!Number.isSafeInteger(amount.value)) refuse("INVALID_AMOUNT_VALUE");
    if (amount.value <= 0) refuse("BELOW_ZERO_AMOUNT");
    return { currency: amount.currency, value: amount.value };
  }

  function checkOrder({ orderId, orderName }) {
    if (typeof orderId !== "string" || !/^[\w\-=]{6,64}$/.test(orderId)) refuse("INVALID_PARAMETERS");
    if (typeof orderName !== "string" || !orderName || orderName.length > 100) refuse("INVALID_PARAMETERS");
  }

  function checkRedirect(url, code) {
    let parsed;
    try {
      parsed = new URL(url);
    } catch {
      refuse(code);
    }
    if (!["http:", "https:"].includes(parsed.protocol)) refuse(code);
  }

  // ── The payment window ────────────────────────────────────────────────────────────────────────

  let isBusy = false;

  /** Runs one window at a time, as the real SDK does; a double click on the shop's button opens one window. */
  async function exclusively(work) {
    if (isBusy) refuse("INVALID_METHOD_TRANSACTION");
    isBusy = true;
    try {
      return await work();
    } finally {
      isBusy = false;
    }
  }

  async function openWindow(request) {
    let response;
    try {
      response = await fetch(`${SANDBOX}/sandbox/window`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(request),
      });
    } catch {
      refuse("UNKNOWN", "샌드박스에 연결할 수 없습니다. (The sandbox does not answer.)");
    }
    const answer = await response.json();
    return response.ok ? SANDBOX + answer.checkoutPath : refuse(answer.code, answer.message);
  }

  function requestWindow(order, amount, window_) {
    checkOrder(order);
    const request = {
      orderId: order.orderId,
      orderName: order.orderName,
      customerEmail: order.customerEmail ?? null,
      customerName: order.customerName ?? null,
      amount: amount.value,
      ...window_,
    };
    const isRedirect = Boolean(order.successUrl || order.failUrl);
    return exclusively(() => (isRedirect ? redirect(request, order) : settleInPage(request, amount)));
  }

  async function redirect(request, { successUrl, failUrl, windowTarget }) {
    checkRedirect(successUrl, "INCORRECT_SUCCESS_URL_FORMAT");
    checkRedirect(failUrl, "INCORRECT_FAIL_URL_FORMAT");
    const url = await openWindow({ ...request, successUrl, failUrl });
    if (windowTarget === "iframe") showOverlay(url);
    else location.assign(url);
  }

  async function settleInPage(request, amount) {
    if (/Mobi|Android/.test(navigator.userAgent)) refuse("NOT_SUPPORTED_PROMISE");
    // The window ends on a page of the sandbox, which tells this page and no other what came out.
    const resultUrl = `${SANDBOX}${RESULT_PATH}?opener=${encodeURIComponent(location.origin)}`;
    const overlay = showOverlay(await openWindow({ ...request, successUrl: resultUrl, failUrl: resultUrl }));
    const result = await messageFrom(overlay.frame);
    overlay.remove();
    if (result.code === "PAY_PROCESS_CANCELED") refuse("USER_CANCEL");
    if (result.code) refuse(result.code, result.message);
    const { paymentKey, orderId, paymentType } = result;
    return { ...(paymentType && { paymentType }), paymentKey, orderId, amount };
  }

  function messageFrom(frame) {
    return new Promise((resolve) => {
      const listen = (event) => {
        const isOurs = event.origin === SANDBOX && event.source === frame.contentWindow;
        if (!isOurs || event.data?.type !== "toss-sandbox.result") return;
        window.removeEventListener("message", listen);
        resolve(event.data.result);
      };
      window.addEventListener("message", listen);
    });
  }

  function showOverlay(url) {
    const host = document.createElement("div");
    host.dataset.testid = "payment-overlay";
    const root = withStyle(host, OVERLAY_STYLE);
    const frame = element("iframe", { title: "결제창 (Payment window)", name: "toss-sandbox-window", src: url });
    root.append(frame);
    document.body.append(host);
    return { frame, remove: () => host.remove() };
  }

  // ── Widgets drawn into the shop's page ────────────────────────────────────────────────────────

  const WIDGET_METHODS = [
    { code: "CARD", label: "신용·체크카드" },
    { code: "TOSSPAY", label: "토스페이", method: "EASY_PAY" },
    { code: "NAVERPAY", label: "네이버페이", method: "EASY_PAY" },
    { code: "KAKAOPAY", label: "카카오페이", method: "EASY_PAY" },
    { code: "TRANSFER", label: "계좌이체" },
    { code: "VIRTUAL_ACCOUNT", label: "가상계좌" },
    { code: "MOBILE_PHONE", label: "휴대폰" },
    { code: "CULTURE_GIFT_CERTIFICATE", label: "문화상품권" },
    { code: "BOOK_GIFT_CERTIFICATE", label: "도서문화상품권" },
    { code: "GAME_GIFT_CERTIFICATE", label: "게임문화상품권" },
  ];

  const OVERLAY_STYLE = `
    :host { position: fixed; inset: 0; z-index: 2147483647; display: grid; place-items: center;
            background: rgb(15 23 42 / 55%); }
    iframe { width: min(480px, 100%); height: min(820px, 100%); border: 0; border-radius: 16px; background: #fff; }
  `;

  const WIDGET_STYLE = `
    :host { display: block; margin: 4px 0; font: 15px/1.5 system-ui, "Apple SD Gothic Neo", "Malgun Gothic", sans-serif;
            color: #1b2430; }
    fieldset { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 8px;
               margin: 0; padding: 0; border: 0; }
    legend { padding: 0 0 8px; font-weight: 700; }
    label { display: flex; gap: 8px; align-items: center; padding: 11px 12px; border: 1px solid #d9e0e8;
            border-radius: 10px; background: #fff; cursor: pointer; }
    label:has(:checked) { border-color: #2563eb; background: #eff5ff; }
    input { accent-color: #2563eb; margin: 0; width: 17px; height: 17px; }
    small { color: #6b7785; }
  `;

  function element(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  /** A shadow root keeps the shop's styles out, and a constructed sheet passes the shop's content security policy. */
  function withStyle(host, css) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    const root = host.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    return root;
  }

  function mount(params) {
    if (typeof params?.selector !== "string") refuse("INVALID_PARAMETERS");
    let target = null;
    try {
      target = document.querySelector(params.selector);
    } catch {
      refuse("INVALID_SELECTOR");
    }
    const host = element("div", {});
    (target ?? refuse("INVALID_SELECTOR")).replaceChildren(host);
    return { host, root: withStyle(host, WIDGET_STYLE) };
  }

  /** One event with its listeners; a wrong name or callback is refused as by the real SDK. */
  function eventOf(name) {
    const listeners = [];
    const on = (eventName, callback) => {
      if (eventName !== name || typeof callback !== "function") refuse("INVALID_PARAMETER");
      listeners.push(callback);
    };
    return { on, emit: (value) => listeners.forEach((listener) => listener(value)) };
  }

  function drawMethods(params, onDestroy) {
    const { host, root } = mount(params);
    const selected = { code: WIDGET_METHODS[0].code };
    const { on, emit } = eventOf("paymentMethodSelect");
    const fieldset = element("fieldset", {}, element("legend", {}, "결제수단"));
    for (const { code, label } of WIDGET_METHODS) {
      const input = element("input", { type: "radio", name: "method", value: code, "data-testid": `widget-${code}` });
      input.checked = code === selected.code;
      input.addEventListener("change", () => {
        selected.code = code;
        emit({ code });
      });
      fieldset.append(element("label", {}, input, label));
    }
    root.append(fieldset);
    const destroy = async () => {
      host.remove();
      onDestroy();
    };
    return { selected, widget: { on, destroy, getSelectedPaymentMethod: async () => ({ ...selected }) } };
  }

  function drawAgreement(params, onDestroy) {
    const { host, root } = mount(params);
    const status = { agreed: false };
    const { on, emit } = eventOf("agreementStatusChange");
    const input = element("input", { type: "checkbox", "data-testid": "widget-agreement" });
    input.addEventListener("change", () => {
      status.agreed = input.checked;
      const term = { id: "sandbox-terms", required: true };
      emit({ agreedRequiredTerms: status.agreed, agreements: [{ term, agreed: status.agreed }] });
    });
    root.append(element("label", {}, input, "[필수] 결제 서비스 이용 약관, 개인정보 처리 동의"));
    const destroy = async () => {
      host.remove();
      onDestroy();
    };
    return { status, widget: { on, destroy } };
  }

  // ── The public interface ──────────────────────────────────────────────────────────────────────

  /** The method the window is fixed to; a card window that names a wallet goes straight to that wallet. */
  function methodOf(order) {
    if (!REQUEST_METHODS.includes(order.method)) refuse("NOT_SUPPORTED_METHOD");
    const isWallet = order.method === "CARD" && order.card?.flowMode === "DIRECT" && order.card?.easyPay;
    return isWallet ? { method: "EASY_PAY", easyPay: order.card.easyPay } : { method: order.method };
  }

  function paymentOf(clientKey) {
    const requestPayment = async (order) => {
      const amount = checkedAmount(order?.amount);
      return requestWindow(order, amount, { clientKey, flow: "payment", ...methodOf(order) });
    };
    return { requestPayment };
  }

  function widgetsOf(clientKey) {
    let amount = null;
    let methods = null;
    let agreement = null;

    const setAmount = async (value) => {
      amount = checkedAmount(value);
    };
    const renderPaymentMethods = async (params) => {
      if (!amount) refuse("NOT_SETUP_AMOUNT");
      if (methods) refuse("PAYMENT_METHODS_WIDGET_ALREADY_RENDERED");
      methods = drawMethods(params, () => (methods = null));
      return methods.widget;
    };
    const renderAgreement = async (params) => {
      if (agreement) refuse("AGREEMENT_WIDGET_ALREADY_RENDERED");
      agreement = drawAgreement(params, () => (agreement = null));
      return agreement.widget;
    };
    const requestPayment = async (order) => {
      if (!amount) refuse("NOT_SETUP_AMOUNT");
      if (!methods) refuse("NOT_SELECTED_PAYMENT_METHOD");
      if (!agreement?.status.agreed) refuse("NEED_AGREEMENT_WITH_REQUIRED_TERMS");
      const { code, method } = WIDGET_METHODS.find((choice) => choice.code === methods.selected.code);
      const chosen = method ? { method, easyPay: code } : { method: code };
      return requestWindow(order ?? {}, amount, { clientKey, flow: "widgets", ...chosen });
    };
    return { setAmount, renderPaymentMethods, renderAgreement, requestPayment };
  }

  function TossPayments(clientKey) {
    const key = checkedClientKey(clientKey);
    const isWidgetKey = key.startsWith("test_gck_");
    return {
      payment(params) {
        checkCustomerKey(params);
        return isWidgetKey ? refuse("NOT_SUPPORTED_WIDGET_KEY") : paymentOf(key);
      },
      widgets(params) {
        checkCustomerKey(params);
        return isWidgetKey ? widgetsOf(key) : refuse("NOT_SUPPORTED_API_INDIVIDUAL_KEY");
      },
    };
  }

  TossPayments.ANONYMOUS = ANONYMOUS;
  window.TossPayments = TossPayments;
})();
