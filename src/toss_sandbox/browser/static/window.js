// A second click while the shop's page is loading must not post again.
let isSent = false;

document.addEventListener("submit", (event) => {
  if (isSent) event.preventDefault();
  isSent = true;
  document.body.classList.add("sent");
});

// Coming back out of the browser's cache shows this page as it was left; what is true now is on the server.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
