// The official Encryption SDK for JavaScript, both ways: its messages are written for the enclave, and it opens ours.
//
// esdk.mjs encrypt KEY_ARN FOLDER CASES   writes FOLDER/NAME.enc for each case of the JSON list CASES
// esdk.mjs decrypt KEY_ARN FOLDER CASES   prints, as JSON, the SHA-256 of what is in each, and its context

import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AlgorithmSuiteIdentifier, CommitmentPolicy, KmsKeyringNode, buildClient } from '@aws-crypto/client-node'

const [, , direction, generatorKeyId, folder, cases] = process.argv
const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const keyring = new KmsKeyringNode({ generatorKeyId })
const SUITES = {
  '0478': AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
  '0578': AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY_ECDSA_P384,
}

const answers = []
for (const { name, suite, frameLength, encryptionContext } of JSON.parse(cases)) {
  if (direction === 'encrypt') {
    const plaintext = readFileSync(join(folder, `${name}.plain`))
    const { result } = await encrypt(keyring, plaintext, { suiteId: SUITES[suite], frameLength, encryptionContext })
    writeFileSync(join(folder, `${name}.enc`), result)
  } else {
    const { plaintext, messageHeader } = await decrypt(keyring, readFileSync(join(folder, `${name}.enc`)))
    const sha256 = createHash('sha256').update(plaintext).digest('hex')
    answers.push({ name, sha256, context: { ...messageHeader.encryptionContext } })
  }
}
console.log(JSON.stringify(answers))
