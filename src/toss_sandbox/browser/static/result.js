// Hands the outcome of a window inside a shop's page to that page, and to no other origin.
const { opener, ...result } = Object.fromEntries(new URLSearchParams(location.search));
parent.postMessage({ type: "toss-sandbox.result", result }, opener);
