// Signs a postback: node sign.mjs SECRET 'name=value' 'name=value' …
// Prints the query to append to the postback URL after "?".

import { createHmac } from "node:crypto";

const [secret, ...args] = process.argv.slice(2);
const parameters = args.map((argument) => {
  const [name, ...value] = argument.split("=");
  return [name, value.join("=")];
});

// encodeURIComponent leaves these as they are.
const encode = (text) =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (sign) => "%" + sign.charCodeAt(0).toString(16).toUpperCase(),
  );

// By bytes: JavaScript's own order is that of UTF-16.
parameters.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
const query = parameters
  .map(([name, value]) => encode(name) + "=" + encode(value))
  .join("&");

const sig = createHmac("sha256", secret).update(query).digest("hex");
console.log(query + "&sig=" + sig);
