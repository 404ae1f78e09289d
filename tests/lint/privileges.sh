#!/bin/bash
# What a process may do at AWS is what it does: each permission of terraform/iam has a function that needs it in that
# process's own binary, and no binary holds a call that its policy refuses. The linker leaves out what nothing uses
# (--gc-sections), so a function that is there can be reached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec /usr/bin/python3 - "${CORDON_BUILD_DIR:?}" <<'PYTHON'
import json, pathlib, subprocess, sys

# The functions of common/aws that call AWS, and the actions that AWS wants for each. Those in (...) only some callers need.
NEEDS = {
    'kms_create_key': 'kms:CreateKey kms:TagResource',
    'kms_create_alias': 'kms:CreateAlias',
    'kms_find_key': 'kms:DescribeKey',
    'kms_generate_tenant_key': 'kms:GenerateDataKeyWithoutPlaintext',
    'kms_decrypt_tenant_key': 'kms:Decrypt',
    'kms_public_key': 'kms:GetPublicKey',
    'kms_sign': 'kms:Sign',
    'kms_describe_key': 'kms:DescribeKey',
    'kms_schedule_deletion': 'kms:ScheduleKeyDeletion',
    'kms_cancel_deletion': 'kms:CancelKeyDeletion',
    's3_put': 's3:PutObject (s3:PutObjectRetention)',
    's3_put_legal_hold': 's3:PutObjectLegalHold',
    's3_get': 's3:GetObject (s3:ListBucket)',
    's3_head': 's3:GetObject (s3:ListBucket)',
    's3_delete': 's3:DeleteObject',
    's3_delete_versions': 's3:DeleteObjectVersion',
    's3_delete_folder': 's3:ListBucketVersions',
    's3_list_versions': 's3:ListBucketVersions',
    's3_abort_uploads': 's3:ListBucketMultipartUploads s3:AbortMultipartUpload',
    's3_upload_flush': 's3:PutObject',
    's3_upload_abort': 's3:AbortMultipartUpload',
    'bedrock_embed': 'bedrock:InvokeModel',
    'bedrock_converse': 'bedrock:InvokeModel (bedrock:ApplyGuardrail)',
    'bedrock_converse_stream': 'bedrock:InvokeModelWithResponseStream (bedrock:ApplyGuardrail)',
    'bedrock_log_places': 'bedrock:GetModelInvocationLoggingConfiguration',
    'bedrock_profile_regions': 'bedrock:GetInferenceProfile',
    'secretsmanager_get': 'secretsmanager:GetSecretValue (kms:Decrypt)',
    'tenants_get': '(sts:AssumeRole sts:TagSession)',
}
IAM, BUILD = pathlib.Path('terraform/iam'), pathlib.Path(sys.argv[1])
# The operator is a person, who has AWS's own tools besides cordon-offboard; every other file belongs to a process.
POLICIES = {f.stem: f.stem for f in IAM.glob('*.json') if f.stem != 'operator'} | {'offboard': 'operator'}
failed = []


def granted(name):
    files = [f for f in (IAM / f'{name}.json', IAM / 'roles' / f'{name}-tenant.json') if f.exists()]
    statements = [s for f in files for s in json.loads(f.read_text())['Statement'] if s['Effect'] == 'Allow']
    return {a for s in statements for a in ([s['Action']] if isinstance(s['Action'], str) else s['Action'])}


def functions(name):
    lines = subprocess.run(['nm', BUILD / 'services' / name / f'cordon-{name}'], check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split()[2] for line in lines if line.split()[1:2] in (['t'], ['T'])}


known = set().union(*(functions(name) for name in POLICIES))
failed += [f'{function}: no such function in any process; say in NEEDS what took its place' for function in NEEDS if function not in known]
for name, policy in sorted(POLICIES.items()):
    may, has = granted(policy), functions(name)
    if 'aws_send' not in has:
        failed.append(f'{name}: has a policy and does not speak to AWS (or its binary has no symbols)')
    used = set()
    for function in NEEDS.keys() & has:
        sure, _, some = NEEDS[function].partition('(')
        used |= set(sure.split()) | set(some.rstrip(')').split())
        failed += [f'{name}: {function}() is in it, and {action} is not allowed' for action in sure.split() if action not in may]
    failed += [f'{name}: may {action}, and nothing in it does' for action in sorted(may - used) if policy != 'operator']
for name in sorted(p.name for p in pathlib.Path('services').iterdir() if (BUILD / 'services' / p.name / f'cordon-{p.name}').exists()):
    if name not in POLICIES and 'aws_send' in functions(name):
        failed.append(f'{name}: speaks to AWS without a policy')
print('\n'.join(failed) or f'{len(POLICIES)} programs, {sum(len(granted(p)) for p in POLICIES.values())} permissions')
sys.exit(1 if failed else 0)
PYTHON
