// One way to call an API: whatever happens comes back as a value, and a lost answer is never taken for a refusal.

/** Answer of `call`. `status` is 0 when no answer came, which says nothing about what the server did. */
export async function call(url, { method = "GET", body, timeoutMs = 10_000 } = {}) {
  try {
    const response = await fetch(url, {
      method,
      credentials: "omit",
      cache: "no-store",
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await response.text();
    return { status: response.status, body: parse(text), retryAfter: seconds(response.headers.get("Retry-After")) };
  } catch {
    return { status: 0, body: null, retryAfter: null };
  }
}

/** True where the same request may be answered otherwise a little later. */
export function isPassing({ status }) {
  return status === 0 || status === 408 || status === 425 || status === 429 || status >= 500;
}

export const isKorean = (text) => typeof text === "string" && /[가-힣]/.test(text);

const REFUSALS = {
  already_paid: "이미 결제된 주문입니다.",
  amount_mismatch: "결제 금액이 주문 금액과 다릅니다.",
  amount_out_of_range: "이 결제수단으로는 결제할 수 없는 금액입니다. 다른 결제수단을 골라 주세요.",
  awaiting_deposit: "이미 발급된 가상계좌가 입금을 기다리고 있습니다.",
  order_amount_mismatch: "결제 금액이 주문 금액과 다릅니다.",
  order_not_found: "주문을 찾을 수 없습니다.",
  order_not_payable: "지금은 결제할 수 없는 주문입니다.",
  payment_closed: "취소되었거나 환불된 주문입니다. 새로 주문해 주세요.",
  payment_in_progress: "이 주문의 결제를 확인하고 있습니다. 다시 결제하지 마세요.",
  payment_key_mismatch: "이 주문은 다른 결제로 처리되고 있습니다.",
  payment_not_found: "결제 정보를 찾을 수 없습니다.",
};

/** What to tell the buyer about a problem of the payments API. */
export function inKorean({ status, body }) {
  if (REFUSALS[body?.code]) return REFUSALS[body.code];
  if (status === 429) return "요청이 많습니다. 잠시 뒤에 다시 시도해 주세요.";
  if (isPassing({ status })) return "결제 서비스에 연결하지 못해 결제창을 열지 않았습니다. 잠시 뒤에 다시 시도해 주세요.";
  return "결제를 진행할 수 없습니다. 입력하신 내용을 확인해 주세요.";
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function seconds(header) {
  return /^\d{1,6}$/.test(header ?? "") ? Number(header) : null;
}
