// The JavaScript SDK against the local KMS; what it makes is checked with node's own cryptography.

import * as crypto from 'node:crypto'
import * as aws from '@aws-sdk/client-kms'
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import { equal, errorOf, finish, that } from './checks.mjs'

const REGION = process.env.AWS_REGION
const CONTEXT = { tenant: 'acme', purpose: 'payments' }
const TEXT = Buffer.from('what nobody else may read')

const kms = new aws.KMSClient({})
const call = (name, input = {}, client = kms) => client.send(new aws[`${name}Command`](input))
const create = async (input = {}) => (await call('CreateKey', input)).KeyMetadata
const spki = (answer) => crypto.createPublicKey({ key: Buffer.from(answer.PublicKey), format: 'der', type: 'spki' })

async function symmetric() {
  const { Arn } = await create({ Description: 'from node' })
  const { CiphertextBlob } = await call('Encrypt', { KeyId: Arn, Plaintext: TEXT, EncryptionContext: CONTEXT })
  const opened = await call('Decrypt', { CiphertextBlob, EncryptionContext: CONTEXT })
  equal('Decrypt gives back what Encrypt took', Buffer.from(opened.Plaintext).toString(), TEXT.toString())
  const wrong = await errorOf(call('Decrypt', { CiphertextBlob, EncryptionContext: { ...CONTEXT, tenant: 'other' } }))
  equal('another context is refused', wrong[0], 'InvalidCiphertextException')
  const key = await call('GenerateDataKey', { KeyId: Arn, KeySpec: 'AES_128' })
  equal('a data key has its length', key.Plaintext.length, 16)
  const dry = await errorOf(call('Encrypt', { KeyId: Arn, Plaintext: TEXT, DryRun: true }))
  equal('a dry run says so', dry, ['DryRunOperationException', 'The request would have succeeded, but the DryRun option is set.'])
  const both = await errorOf(call('GenerateDataKey', { KeyId: Arn, KeySpec: 'AES_128', NumberOfBytes: 16 }))
  equal('two lengths are refused', both[0], 'ValidationException')
  return Arn
}

async function rotation(arn) {
  const before = (await call('Encrypt', { KeyId: arn, Plaintext: TEXT })).CiphertextBlob
  await call('EnableKeyRotation', { KeyId: arn, RotationPeriodInDays: 90 })
  const status = await call('GetKeyRotationStatus', { KeyId: arn })
  equal('rotation is on', [status.KeyRotationEnabled, status.RotationPeriodInDays], [true, 90])
  that('the next rotation has a date', status.NextRotationDate > new Date())
  await call('RotateKeyOnDemand', { KeyId: arn })
  const { KeyMaterialId } = await call('Decrypt', { CiphertextBlob: before })
  const current = (await call('DescribeKey', { KeyId: arn })).KeyMetadata.CurrentKeyMaterialId
  that('ciphertexts from before the rotation open under their own material', KeyMaterialId !== current)
  const listed = (await call('ListKeyRotations', { KeyId: arn })).Rotations
  equal('the rotation is listed', listed.map((rotation) => rotation.RotationType), ['ON_DEMAND'])
  await call('DisableKeyRotation', { KeyId: arn })
  equal('rotation is off', (await call('GetKeyRotationStatus', { KeyId: arn })).KeyRotationEnabled, false)
}

async function signatures() {
  for (const [KeySpec, SigningAlgorithm, hash, options] of [
    ['RSA_2048', 'RSASSA_PKCS1_V1_5_SHA_256', 'sha256', {}],
    ['RSA_3072', 'RSASSA_PSS_SHA_384', 'sha384', { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }],
    ['ECC_NIST_P256', 'ECDSA_SHA_256', 'sha256', {}],
    ['ECC_NIST_P384', 'ECDSA_SHA_384', 'sha384', {}],
    ['ECC_NIST_P521', 'ECDSA_SHA_512', 'sha512', {}],
    ['ECC_SECG_P256K1', 'ECDSA_SHA_256', 'sha256', {}],
    ['ECC_NIST_EDWARDS25519', 'ED25519_SHA_512', null, {}],
  ]) {
    const { KeyId, SigningAlgorithms } = await create({ KeySpec, KeyUsage: 'SIGN_VERIFY' })
    that(`${KeySpec} lists ${SigningAlgorithm}`, SigningAlgorithms.includes(SigningAlgorithm), SigningAlgorithms)
    const { Signature } = await call('Sign', { KeyId, Message: TEXT, SigningAlgorithm })
    const key = spki(await call('GetPublicKey', { KeyId }))
    that(`node verifies ${KeySpec}`, crypto.verify(hash, TEXT, { key, ...options }, Signature))
    const verified = await call('Verify', { KeyId, Message: TEXT, SigningAlgorithm, Signature })
    equal(`KMS verifies ${KeySpec}`, verified.SignatureValid, true)
    const other = await errorOf(call('Verify', { KeyId, Message: Buffer.from('other'), SigningAlgorithm, Signature }))
    equal(`KMS refuses another message (${KeySpec})`, other[0], 'KMSInvalidSignatureException')
    if (hash) {
      const Message = crypto.createHash(hash).update(TEXT).digest()
      const digested = await call('Sign', { KeyId, Message, MessageType: 'DIGEST', SigningAlgorithm })
      that(`node verifies ${KeySpec} over a digest`, crypto.verify(hash, TEXT, { key, ...options }, digested.Signature))
    }
  }
}

async function encryptionForRsa() {
  const { KeyId } = await create({ KeySpec: 'RSA_2048', KeyUsage: 'ENCRYPT_DECRYPT' })
  const key = spki(await call('GetPublicKey', { KeyId }))
  for (const [EncryptionAlgorithm, oaepHash] of [['RSAES_OAEP_SHA_1', 'sha1'], ['RSAES_OAEP_SHA_256', 'sha256']]) {
    const CiphertextBlob = crypto.publicEncrypt({ key, padding: crypto.constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, TEXT)
    const opened = await call('Decrypt', { KeyId, CiphertextBlob, EncryptionAlgorithm })
    equal(`KMS opens what node encrypted (${oaepHash})`, Buffer.from(opened.Plaintext).toString(), TEXT.toString())
  }
  const long = await errorOf(call('Encrypt', { KeyId, Plaintext: Buffer.alloc(191), EncryptionAlgorithm: 'RSAES_OAEP_SHA_256' }))
  equal('too much for the key', long, ['ValidationException', 'Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.'])
}

async function macs() {
  for (const [KeySpec, MacAlgorithm] of [['HMAC_224', 'HMAC_SHA_224'], ['HMAC_256', 'HMAC_SHA_256'], ['HMAC_384', 'HMAC_SHA_384'], ['HMAC_512', 'HMAC_SHA_512']]) {
    const { KeyId } = await create({ KeySpec, KeyUsage: 'GENERATE_VERIFY_MAC' })
    const { Mac } = await call('GenerateMac', { KeyId, Message: TEXT, MacAlgorithm })
    equal(`${KeySpec} has its length`, Mac.length * 8, Number(KeySpec.slice(5)))
    equal(`${KeySpec} verifies`, (await call('VerifyMac', { KeyId, Message: TEXT, MacAlgorithm, Mac })).MacValid, true)
    Mac[0] ^= 1
    const wrong = await errorOf(call('VerifyMac', { KeyId, Message: TEXT, MacAlgorithm, Mac }))
    equal(`${KeySpec} refuses another code`, wrong[0], 'KMSInvalidMacException')
  }
}

async function agreement() {
  for (const [KeySpec, namedCurve] of [['ECC_NIST_P256', 'P-256'], ['ECC_NIST_P384', 'P-384'], ['ECC_NIST_P521', 'P-521']]) {
    const { KeyId } = await create({ KeySpec, KeyUsage: 'KEY_AGREEMENT' })
    const ours = crypto.generateKeyPairSync('ec', { namedCurve })
    const answer = await call('DeriveSharedSecret', {
      KeyId,
      KeyAgreementAlgorithm: 'ECDH',
      PublicKey: ours.publicKey.export({ format: 'der', type: 'spki' }),
    })
    const wanted = crypto.diffieHellman({ privateKey: ours.privateKey, publicKey: spki(await call('GetPublicKey', { KeyId })) })
    equal(`${namedCurve}: both sides have the same secret`, Buffer.from(answer.SharedSecret).toString('hex'), wanted.toString('hex'))
  }
}

async function dataKeyPairs(arn) {
  for (const KeyPairSpec of ['RSA_2048', 'ECC_NIST_P256', 'ECC_NIST_P384', 'ECC_SECG_P256K1', 'ECC_NIST_EDWARDS25519']) {
    const pair = await call('GenerateDataKeyPair', { KeyId: arn, KeyPairSpec, EncryptionContext: CONTEXT })
    const key = crypto.createPrivateKey({ key: Buffer.from(pair.PrivateKeyPlaintext), format: 'der', type: 'pkcs8' })
    const hash = KeyPairSpec.endsWith('25519') ? null : 'sha256'
    that(`${KeyPairSpec}: the halves belong together`, crypto.verify(hash, TEXT, spki(pair), crypto.sign(hash, TEXT, key)))
    const opened = await call('Decrypt', { CiphertextBlob: pair.PrivateKeyCiphertextBlob, EncryptionContext: CONTEXT })
    that(`${KeyPairSpec}: the wrapped half is the same`, Buffer.from(opened.Plaintext).equals(Buffer.from(pair.PrivateKeyPlaintext)))
    const blind = await call('GenerateDataKeyPairWithoutPlaintext', { KeyId: arn, KeyPairSpec })
    equal(`${KeyPairSpec}: without plaintext there is none`, blind.PrivateKeyPlaintext, undefined)
  }
}

async function importedMaterial() {
  const { KeyId, KeyState } = await create({ Origin: 'EXTERNAL' })
  equal('a key for import waits', KeyState, 'PendingImport')
  const material = crypto.randomBytes(32)
  const load = async (bytes, more = { ExpirationModel: 'KEY_MATERIAL_DOES_NOT_EXPIRE' }) => {
    const parameters = await call('GetParametersForImport', { KeyId, WrappingAlgorithm: 'RSAES_OAEP_SHA_256', WrappingKeySpec: 'RSA_4096' })
    const padding = crypto.constants.RSA_PKCS1_OAEP_PADDING
    const EncryptedKeyMaterial = crypto.publicEncrypt({ key: spki(parameters), padding, oaepHash: 'sha256' }, bytes)
    return call('ImportKeyMaterial', { KeyId, ImportToken: parameters.ImportToken, EncryptedKeyMaterial, ...more })
  }
  await load(material)
  equal('an imported key works', (await call('DescribeKey', { KeyId })).KeyMetadata.KeyState, 'Enabled')
  const { CiphertextBlob } = await call('Encrypt', { KeyId, Plaintext: TEXT })
  await call('DeleteImportedKeyMaterial', { KeyId })
  equal('without material it does not', (await errorOf(call('Decrypt', { CiphertextBlob })))[0], 'KMSInvalidStateException')
  equal('other material is refused', (await errorOf(load(crypto.randomBytes(32))))[0], 'IncorrectKeyMaterialException')
  await load(material, { ExpirationModel: 'KEY_MATERIAL_EXPIRES', ValidTo: new Date(Date.now() + 86_400_000) })
  equal('the same material brings its ciphertexts back', Buffer.from((await call('Decrypt', { CiphertextBlob })).Plaintext).toString(), TEXT.toString())
  equal('it expires', (await call('DescribeKey', { KeyId })).KeyMetadata.ExpirationModel, 'KEY_MATERIAL_EXPIRES')
}

async function grants(arn) {
  const ours = await new STSClient({}).send(new GetCallerIdentityCommand({}))
  equal('STS knows the caller', ours.Account, arn.split(':')[4])
  const grantee = `arn:aws:iam::${ours.Account}:user/data-owner`
  const input = { KeyId: arn, GranteePrincipal: grantee, Operations: ['Decrypt', 'DescribeKey'], Name: 'peers', Constraints: { EncryptionContextSubset: { tenant: 'acme' } } }
  const grant = await call('CreateGrant', input)
  equal('the same grant again is the same grant', (await call('CreateGrant', input)).GrantId, grant.GrantId)
  const owner = new aws.KMSClient({ profile: 'owner' })
  const blob = (await call('Encrypt', { KeyId: arn, Plaintext: TEXT, EncryptionContext: CONTEXT })).CiphertextBlob
  const opened = await call('Decrypt', { CiphertextBlob: blob, EncryptionContext: CONTEXT, GrantTokens: [grant.GrantToken] }, owner)
  equal('the grantee decrypts', Buffer.from(opened.Plaintext).toString(), TEXT.toString())
  const bare = (await call('Encrypt', { KeyId: arn, Plaintext: TEXT })).CiphertextBlob
  equal('outside the constraint it does not', (await errorOf(call('Decrypt', { CiphertextBlob: bare }, owner)))[0], 'AccessDeniedException')
  const listed = []
  for await (const page of aws.paginateListGrants({ client: kms, pageSize: 1 }, { KeyId: arn })) listed.push(...page.Grants)
  equal('the grant is listed', listed.map(({ GrantId, Name }) => [GrantId, Name]), [[grant.GrantId, 'peers']])
  await call('RevokeGrant', { KeyId: arn, GrantId: grant.GrantId })
  const after = await errorOf(call('Decrypt', { CiphertextBlob: blob, EncryptionContext: CONTEXT }, owner))
  equal('a revoked grant is gone', after[0], 'AccessDeniedException')
}

async function regions() {
  const abroad = new aws.KMSClient({ region: 'us-west-2' })
  const { Arn, KeyId } = await create({ MultiRegion: true })
  const { ReplicaKeyMetadata } = await call('ReplicateKey', { KeyId, ReplicaRegion: 'us-west-2' })
  equal('a replica has the same id', ReplicaKeyMetadata.KeyId, KeyId)
  const { CiphertextBlob } = await call('Encrypt', { KeyId: Arn, Plaintext: TEXT })
  const opened = await call('Decrypt', { CiphertextBlob }, abroad)
  equal('a replica opens what the primary sealed', opened.KeyId, Arn.replace(REGION, 'us-west-2'))
  const plain = await create()
  const there = await errorOf(call('DescribeKey', { KeyId: plain.KeyId }, abroad))
  equal('other keys stay where they are', there[0], 'NotFoundException')
  await call('UpdatePrimaryRegion', { KeyId, PrimaryRegion: 'us-west-2' })
  const type = (await call('DescribeKey', { KeyId }, abroad)).KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType
  equal('the replica becomes the primary', type, 'PRIMARY')
}

async function management() {
  const { KeyId, Arn } = await create()
  await call('TagResource', { KeyId, Tags: [{ TagKey: 'team', TagValue: 'peers' }, { TagKey: 'stage', TagValue: 'test' }] })
  await call('UntagResource', { KeyId, TagKeys: ['stage'] })
  equal('tags', (await call('ListResourceTags', { KeyId })).Tags, [{ TagKey: 'team', TagValue: 'peers' }])
  await call('UpdateKeyDescription', { KeyId, Description: 'new' })
  equal('description', (await call('DescribeKey', { KeyId })).KeyMetadata.Description, 'new')
  await call('CreateAlias', { AliasName: 'alias/node', TargetKeyId: KeyId })
  const other = await create()
  await call('UpdateAlias', { AliasName: 'alias/node', TargetKeyId: other.KeyId })
  equal('an alias moves', (await call('DescribeKey', { KeyId: 'alias/node' })).KeyMetadata.KeyId, other.KeyId)
  await call('DeleteAlias', { AliasName: 'alias/node' })
  await call('DisableKey', { KeyId })
  equal('a disabled key', await errorOf(call('Encrypt', { KeyId, Plaintext: TEXT })), ['DisabledException', `${Arn} is disabled.`])
  await call('EnableKey', { KeyId })
  const { KeyState } = await call('ScheduleKeyDeletion', { KeyId, PendingWindowInDays: 7 })
  equal('deletion waits', KeyState, 'PendingDeletion')
  equal('a key about to go', await errorOf(call('Encrypt', { KeyId, Plaintext: TEXT })), ['KMSInvalidStateException', `${Arn} is pending deletion.`])
  await call('CancelKeyDeletion', { KeyId })
  equal('saved, it is disabled', (await call('DescribeKey', { KeyId })).KeyMetadata.KeyState, 'Disabled')
  const ids = []
  for await (const page of aws.paginateListKeys({ client: kms, pageSize: 3 }, {})) ids.push(...page.Keys.map((key) => key.KeyId))
  that('pages have every key once', ids.includes(KeyId) && new Set(ids).size === ids.length)
}

const arn = await symmetric()
await rotation(arn)
await signatures()
await encryptionForRsa()
await macs()
await agreement()
await dataKeyPairs(arn)
await importedMaterial()
await grants(arn)
await regions()
await management()
finish()
