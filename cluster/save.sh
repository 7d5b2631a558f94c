#!/bin/sh
# Copy the study's results from the head to its bucket, or back: `ray down` deletes the head's disk.
#
#     sh cluster/save.sh          to the bucket; cron does so every 15 minutes
#     sh cluster/save.sh back     from the bucket, if the head's own database is still empty
set -eu
. "$HOME/.age-study.sh"
export PATH="$PATH:/usr/local/bin" # the folder of `aws` is not in cron's PATH
bucket=$(cat "$HOME/.age-study-bucket")
cd "$HOME/age-study"

if [ "${1:-}" = back ]; then
    tables=$(psql --dbname mlflow --tuples-only --no-align --command \
        "select count(*) from information_schema.tables where table_schema = 'public'")
    [ "$tables" = 0 ] || exit 0
    aws s3 sync --only-show-errors "$bucket/runs" runs
    if aws s3 ls "$bucket/mlflow.sql.gz" >/dev/null; then
        aws s3 cp --only-show-errors "$bucket/mlflow.sql.gz" - | gunzip |
            psql --quiet --dbname mlflow --set ON_ERROR_STOP=1 --single-transaction >/dev/null
    fi
    exit 0
fi
pg_dump --no-owner mlflow | gzip >"$HOME/mlflow.sql.gz" # first to disk, so that the bucket never gets half a file
aws s3 cp --only-show-errors "$HOME/mlflow.sql.gz" "$bucket/mlflow.sql.gz"
mkdir -p runs
aws s3 sync --only-show-errors runs "$bucket/runs"
