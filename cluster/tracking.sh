#!/bin/sh
# Start the MLflow server on this machine's loopback, unless it runs already. `ray up` does so on the head.
#
#     sh cluster/tracking.sh DATABASE ARTIFACTS [PORT]   for example: sqlite:////home/me/mlflow.db /home/me/artifacts
#
# Its password is created here, once, and never leaves this machine: clients on it read ~/.mlflow/credentials.
set -eu
database=$1
artifacts=$2
port=${3:-5000}
folder=$HOME/.mlflow
umask 077
mkdir -p "$folder"

if [ ! -s "$folder/credentials" ] || [ ! -s "$folder/server.ini" ]; then
    password=$(python -c 'import secrets; print(secrets.token_hex(24))')
    rm -f "$folder/users.db" # MLflow reads the password from server.ini only when it creates the user
    cat >"$folder/server.ini" <<END
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///$folder/users.db
admin_username = study
admin_password = $password
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 300
END
    cat >"$folder/credentials" <<END
[mlflow]
mlflow_tracking_username = study
mlflow_tracking_password = $password
END
fi

answers() { curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; }
answers && exit 0

export MLFLOW_AUTH_CONFIG_PATH="$folder/server.ini"
MLFLOW_FLASK_SERVER_SECRET_KEY=$(python -c 'import secrets; print(secrets.token_hex(24))')
export MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # otherwise ten processes and 2 GB
# A connection for each of a worker's 40 threads: with the default of 15, others time out after 30 s. PostgreSQL has 100
export MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=40 MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW=0
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
setsid nohup mlflow server --host 127.0.0.1 --port "$port" --workers "${MLFLOW_WORKERS:-2}" --app-name basic-auth \
    --allowed-hosts "127.0.0.1:$port,localhost:$port" \
    --backend-store-uri "$database" --artifacts-destination "$artifacts" \
    >"$folder/server.log" 2>&1 </dev/null &
server=$!
echo "$server" >"$folder/server.pid"

seconds=0
until answers; do
    seconds=$((seconds + 2))
    if [ "$seconds" -gt 120 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "the MLflow server has ended or does not answer after 120 s; its log is $folder/server.log" >&2
        exit 1
    fi
    sleep 2
done
