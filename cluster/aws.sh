#!/bin/sh
# Create, once, what cluster.yaml needs in your AWS account; prints the lines to put at its top.
#
#     REGION=eu-central-1 BUCKET=name-of-your-bucket ADDRESS=203.0.113.7/32 sh cluster/aws.sh
#
# ADDRESS is your public address: only it may use SSH. Ray could create the security group too, but its own opens SSH to
# the whole internet, whatever the cluster file says. Needs the AWS command line, logged in.
set -eu
: "${REGION:?such as eu-central-1}" "${BUCKET:?a new or existing S3 bucket}" "${ADDRESS:?such as 203.0.113.7/32}"
name=age-study
export AWS_DEFAULT_REGION="$REGION" AWS_PAGER=""

# The bucket: private, encrypted.
if ! aws s3api head-bucket --bucket "$BUCKET" >/dev/null 2>&1; then
    aws s3 mb "s3://$BUCKET" >/dev/null
fi
aws s3api put-public-access-block --bucket "$BUCKET" --public-access-block-configuration \
    BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true

# The security group: SSH from ADDRESS; all traffic among the nodes themselves.
vpc=$(aws ec2 describe-vpcs --filters Name=is-default,Values=true --query 'Vpcs[0].VpcId' --output text)
group=$(aws ec2 describe-security-groups --filters "Name=group-name,Values=$name" "Name=vpc-id,Values=$vpc" \
    --query 'SecurityGroups[0].GroupId' --output text)
if [ "$group" = None ]; then
    group=$(aws ec2 create-security-group --group-name $name --vpc-id "$vpc" \
        --description "age-study: SSH from one address" --query GroupId --output text)
    aws ec2 authorize-security-group-ingress --group-id "$group" --protocol all --source-group "$group" >/dev/null
    aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 22 --cidr "$ADDRESS" >/dev/null
fi

# Two roles: the head may start and end workers; both may use this bucket and nothing else.
account=$(aws sts get-caller-identity --query Account --output text)
trust='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
  "Principal": {"Service": "ec2.amazonaws.com"}}]}'
bucket_policy='{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": "arn:aws:s3:::'$BUCKET'"},
  {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
   "Resource": "arn:aws:s3:::'$BUCKET'/*"}]}'
launch_policy='{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["ec2:Describe*", "ec2:RunInstances", "ec2:CreateTags", "ec2:DeleteTags"],
   "Resource": "*"},
  {"Effect": "Allow", "Action": ["ec2:TerminateInstances", "ec2:StopInstances"], "Resource": "*",
   "Condition": {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": "'$name'"}}},
  {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::'$account':role/'$name'-worker"}]}'
for role in $name-head $name-worker; do
    if ! aws iam get-role --role-name $role >/dev/null 2>&1; then
        aws iam create-role --role-name $role --assume-role-policy-document "$trust" >/dev/null
        aws iam create-instance-profile --instance-profile-name $role >/dev/null
        aws iam add-role-to-instance-profile --instance-profile-name $role --role-name $role
    fi
    aws iam put-role-policy --role-name $role --policy-name bucket --policy-document "$bucket_policy"
done
aws iam put-role-policy --role-name $name-head --policy-name launch --policy-document "$launch_policy"

# Once per account: the role that spot machines need. The head is not allowed to create it.
aws iam create-service-linked-role --aws-service-name spot.amazonaws.com >/dev/null 2>&1 || true

# The image: Ubuntu 22.04 with NVIDIA's driver, by AWS. Ray's own default is Ubuntu 18.04, too old for PyTorch's wheels.
image=$(aws ssm get-parameter --query Parameter.Value --output text --name \
    /aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id || echo ami-unknown)

cat <<END
Put these at the top of cluster.yaml:
  region: &region $REGION
  image: &image $image
  security_groups: &security_groups [$group]
  bucket: &bucket echo s3://$BUCKET > ~/.age-study-bucket
END
