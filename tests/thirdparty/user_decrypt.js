// The user's side of user decryption with Zama's node-tkms.
//   node user_decrypt.js keypair   stdout: {publicKey, secretKey} (hex)
//   node user_decrypt.js open      stdin: {signers: [address], client, request, domain, responses, publicKey, secretKey}
//                                  stdout: [{value: hex, fheType}], verified (verify = true)
"use strict";
const fs = require("node:fs");
const tkms = require("node-tkms");

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const raw = (text) => Uint8Array.from(Buffer.from(text, "hex"));

if (process.argv[2] === "keypair") {
  const secret = tkms.ml_kem_pke_keygen();
  const publicKey = tkms.ml_kem_pke_pk_to_u8vec(tkms.ml_kem_pke_get_pk(secret));
  console.log(JSON.stringify({ publicKey: hex(publicKey), secretKey: hex(tkms.ml_kem_pke_sk_to_u8vec(secret)) }));
} else {
  const order = JSON.parse(fs.readFileSync(0, "utf8"));
  const signers = order.signers.map((address, index) => tkms.new_server_id_addr(index + 1, address));
  const client = tkms.new_client(signers, order.client, "default");
  try {
    const opened = tkms.process_user_decryption_resp_from_js(
      client,
      order.request,
      order.domain,
      order.responses,
      tkms.u8vec_to_ml_kem_pke_pk(raw(order.publicKey)),
      tkms.u8vec_to_ml_kem_pke_sk(raw(order.secretKey)),
      true,
    );
    console.log(JSON.stringify(opened.map((plain) => ({ value: hex(plain.bytes), fheType: plain.fhe_type }))));
  } catch (error) {
    console.error(`node-tkms refuses: ${error.message || error}`);
    process.exit(1);
  }
}
