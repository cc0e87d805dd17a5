// The API's own description, read from here; a key that is typed in stays with the page.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  // No description leaves for a validator of another host.
  validatorUrl: null,
});
