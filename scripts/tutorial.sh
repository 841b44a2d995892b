#!/usr/bin/env bash
# The az commands of Microsoft's App Service tutorials (connect to databases,
# vaults and stores without secrets), in their order, as they stand there, with
# Debian's az 2.45 against a plane of one's own. Names in <angle brackets> are
# filled in; nothing else is changed. It ends 0 if every command does and every
# table has what it should.
#
# Left out are exactly the commands that download an extension:
#   az extension add --name serviceconnector-passwordless --upgrade
#   az extension add --name rdbms-connect, and az postgres flexible-server execute
# The first one's job is done by az webapp connection, which az has built in;
# the second one's by psql, below. Two more words on Debian's build: its
# `az keyvault secret` lacks a module, so secrets go by `az rest`, and `az role`
# has a fault that scripts/az-shim cures (docs/operate.md).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
PATH=${HAWSER_BIN_DIR:+$HAWSER_BIN_DIR:}$PATH

# az cannot be told a port: PostgreSQL is at 5432, and names are in the hosts file.
(exec 3<>/dev/tcp/127.0.0.1/5432) 2>/dev/null && { echo "Something listens on 127.0.0.1:5432, where az looks for the database; stop it for a while." >&2; exit 1; }
[ -w /etc/hosts ] || { echo "Names must go into /etc/hosts while this runs: run it as root." >&2; exit 1; }

say "A plane"
domain=tutorial.localhost
echo '$ hawser up'
hawser up --domain $domain --listen 127.0.0.1:0 --pg 127.0.0.1:5432 --hosts auto --imds off >"$work/plane.out" 2>"$work/plane.log" &
plane=$!
wait_for "$work/plane.out" '^ready ' "$plane"
export AZURE_CONFIG_DIR=$work/azure AZURE_CORE_COLLECT_TELEMETRY=no AZURE_CORE_ONLY_SHOW_ERRORS=yes PYTHONPATH=$PWD/scripts/az-shim
REQUESTS_CA_BUNDLE=$(hawser env --json | tr ',' '\n' | sed -n 's/.*"caBundle": *"\([^"]*\)".*/\1/p')
export REQUESTS_CA_BUNDLE
show hawser az-setup

# typed COMMAND…: as one would type it; only what needs quotes has them.
typed() {
  printf '$'
  for w in "$@"; do
    w=${w//"${password:-no password yet}"/<password>}
    if [[ $w =~ ^[A-Za-z0-9_./:=@%+,\<\>-]+$ ]]; then printf ' %s' "$w"; else printf ' %s' "${w@Q}"; fi
  done
  echo
}

# see WORD… -- COMMAND…: shows and runs it; its output must hold every word.
see() {
  local words=() out
  while [ "$1" != -- ]; do words+=("$1"); shift; done; shift
  [ "$1" != az ] || case " $* " in *" --output "*) ;; *) set -- "$@" --output table ;; esac
  typed "$@"
  out=$("$@") || { echo "$out"; echo "It ended with an error." >&2; return 1; }
  printf '%s\n' "$out"
  [ -n "$out" ] || { echo "It printed nothing." >&2; return 1; }
  for w in "${words[@]}"; do grep -qF -- "$w" <<<"$out" || { echo "Its output lacks: $w" >&2; return 1; }; done
}

g=myResourceGroup app=tutorial-app server=tutorialpg db=mydb vault=tutorialkv account=tutorialacct cosmos=tutorialcosmos
password=$(secret)Aa1

say "Prepare: an app"
see $g -- az group create --name $g --location "West Europe" --query '{name:name,state:properties.provisioningState}'
see myPlan -- az appservice plan create --resource-group $g --name myPlan --is-linux --sku B1 --query '{name:name,sku:sku.name}'
see $app Running -- az webapp create --resource-group $g --plan myPlan --name $app --runtime PYTHON:3.10 --query '{name:name,state:state}'
see SystemAssigned -- az webapp identity assign --resource-group $g --name $app --query '{kind:type,principal:principalId}'

say "A database, and a connection without a password"
see $server -- az postgres flexible-server create --resource-group $g --name $server --location westeurope --admin-user boss --admin-password "$password" --sku-name Standard_B1ms --tier Burstable --active-directory-auth Enabled --public-access None --yes --query '{host:host,user:username}'
see $db -- az postgres flexible-server db create --resource-group $g --server-name $server --database-name $db --query '{name:name}'
me=$(az ad sp show --id "$(az account show --query user.name -o tsv)" --query id -o tsv)
see ServicePrincipal -- az postgres flexible-server ad-admin create --resource-group $g --server-name $server --display-name "$(az account show --query user.name -o tsv)" --object-id "$me" --type ServicePrincipal --query '{kind:principalType,object:objectId}'
see python Succeeded -- az webapp connection create postgres-flexible --resource-group $g --name $app --connection pgconn --target-resource-group $g --server $server --database $db --client-type python --system-identity --query '{name:name,client:clientType,state:provisioningState}'
see pgconn -- az webapp connection list --resource-group $g --name $app --query '[].{name:name,client:clientType}'
see systemAssignedIdentity -- az webapp connection show --resource-group $g --name $app --connection pgconn --query '{auth:authInfo.authType,client:clientType}'
see success -- az webapp connection validate --resource-group $g --name $app --connection pgconn --query '[].{check:name,result:result}'
! az webapp connection validate --resource-group $g --name $app --connection pgconn --query '[].result' -o tsv | grep -v success
see AZURE_POSTGRESQL_CONNECTIONSTRING user=aad_pgconn -- az webapp connection list-configuration --resource-group $g --name $app --connection pgconn --query 'configurations[].{name:name,value:value}'
PGPASSWORD=$(hawser token https://ossrdbms-aad.database.windows.net --app "$(az webapp show -g $g -n $app --query id -o tsv)") see aad_pgconn -- \
  psql "host=$server.postgres.$domain port=5432 dbname=$db user=aad_pgconn sslmode=require" -c 'select current_user'

say "A group for the app's identity"
groupid=$(az ad group create --display-name myAzureSQLDBAccessGroup --mail-nickname myAzureSQLDBAccessGroup --query objectId --output tsv)
# az names it id since 2.37, where the tutorial's line prints nothing.
groupid=${groupid:-$(az ad group show --group myAzureSQLDBAccessGroup --query id --output tsv)}
msiobjectid=$(az webapp identity show --resource-group $g --name $app --query principalId --output tsv)
az ad group member add --group "$groupid" --member-id "$msiobjectid"
see $app -- az ad group member list -g "$groupid" --query '[].{name:displayName,object:id}'

say "A vault, and a setting that refers to it"
see $vault -- az keyvault create --resource-group $g --name $vault --location westeurope --query '{name:name,uri:properties.vaultUri}'
see $vault -- az keyvault set-policy --name $vault --object-id "$msiobjectid" --secret-permissions get list --query '{name:name,policies:length(properties.accessPolicies)}'
uri=$(az keyvault show --name $vault --query properties.vaultUri -o tsv)
see csresourcekey -- az rest --method put --url "${uri}secrets/csresourcekey?api-version=7.4" --resource https://vault.azure.net --body '{"value":"the key"}' --query '{uri:id}'
see CS_ACCOUNT_KEY -- az webapp config appsettings set --resource-group $g --name $app --settings CS_ACCOUNT_KEY="@Microsoft.KeyVault(SecretUri=${uri}secrets/csresourcekey)" --query '[].{name:name,value:value}'
see AZURE_KEYVAULT_RESOURCEENDPOINT -- az webapp connection create keyvault --resource-group $g --name $app --connection kvconn --target-resource-group $g --vault $vault --client-type python --system-identity --query 'configurations[].{name:name,value:value}'

say "A document store, with its keys"
see $cosmos -- az cosmosdb create --resource-group $g --name $cosmos --query '{name:name,endpoint:documentEndpoint}'
see Primary -- az cosmosdb keys list --resource-group $g --name $cosmos --type connection-strings --query 'connectionStrings[].{what:description}'
before=$(az cosmosdb keys list --resource-group $g --name $cosmos --query secondaryMasterKey -o tsv)
az cosmosdb keys regenerate --resource-group $g --name $cosmos --key-kind secondary >/dev/null
[ "$before" != "$(az cosmosdb keys list --resource-group $g --name $cosmos --query secondaryMasterKey -o tsv)" ]

say "A storage account, with its keys and a role"
see $account -- az storage account create --resource-group $g --name $account --location westeurope --sku Standard_LRS --query '{name:name,blob:primaryEndpoints.blob}'
see key1 key2 -- az storage account keys list --resource-group $g --account-name $account --query '[].{name:keyName,rights:permissions}'
see key1 -- az storage account keys renew --resource-group $g --account-name $account --key primary --query '[].{name:keyName}'
see "$msiobjectid" -- az role assignment create --role "Storage Blob Data Contributor" --assignee-object-id "$msiobjectid" --assignee-principal-type ServicePrincipal --scope "$(az storage account show -g $g -n $account --query id -o tsv)" --query '{principal:principalId}'
see AZURE_STORAGEBLOB_RESOURCEENDPOINT -- az webapp connection create storage-blob --resource-group $g --name $app --connection blobconn --target-resource-group $g --account $account --client-type python --system-identity --query 'configurations[].{name:name,value:value}'

say "A connection string"
az webapp config connection-string set --resource-group $g --name $app --connection-string-type SQLAzure --settings MyDbConnection="Server=tcp:example;Database=mydb" >/dev/null
see MyDbConnection SQLAzure -- az webapp config connection-string list --resource-group $g --name $app --query '[].{name:name,kind:type}'

say "And undone"
for c in pgconn kvconn blobconn; do az webapp connection delete --resource-group $g --name $app --connection $c --yes; done
[ -z "$(az webapp connection list --resource-group $g --name $app --query '[].name' -o tsv)" ]
az group delete --name $g --yes
[ "$(az group exists --name $g -o tsv)" = false ]
say "Every command did what its tutorial says."
