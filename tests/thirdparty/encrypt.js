// Encrypts values with Zama's node-tfhe under a published key, with a proof bound to the metadata.
// stdin: {publicKey, crs, out: paths; metadata: hex; values: [{type: "bool"|"u8".."u256", value: decimal string}]}
// stdout: {bytes: size of the list, seconds: time of proving}
"use strict";
const fs = require("node:fs");
const tfhe = require("node-tfhe");

const LIMIT = 1n << 30n;
const order = JSON.parse(fs.readFileSync(0, "utf8"));
const publicKey = tfhe.TfheCompactPublicKey.safe_deserialize(fs.readFileSync(order.publicKey), LIMIT);
const crs = tfhe.CompactPkeCrs.safe_deserialize(fs.readFileSync(order.crs), LIMIT);
const builder = tfhe.ProvenCompactCiphertextList.builder(publicKey);
for (const { type, value } of order.values) {
  if (type === "bool") builder.push_boolean(value === "1" || value === "true");
  else if (["u8", "u16", "u32"].includes(type)) builder[`push_${type}`](Number(value));
  else builder[`push_${type}`](BigInt(value));
}
const begun = process.hrtime.bigint();
const list = builder.build_with_proof_packed(crs, Buffer.from(order.metadata, "hex"), tfhe.ZkComputeLoad.Proof);
const bytes = list.safe_serialize(LIMIT);
fs.writeFileSync(order.out, bytes);
console.log(JSON.stringify({ bytes: bytes.length, seconds: Number(process.hrtime.bigint() - begun) / 1e9 }));
