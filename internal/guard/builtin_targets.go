package guard

// targetRoles are the built-in roles of the things that an app connects to.
// Source: learn.microsoft.com, Azure built-in roles (storage, databases,
// security, AI, integration).
func targetRoles(role func(id, name, about string, p Permission) *Role, with func(...string) []string) []*Role {
	return append(append(storageRoles(role, with), databaseRoles(role, with)...), otherRoles(role, with)...)
}

const (
	blobs  = "Microsoft.Storage/storageAccounts/blobServices/"
	queues = "Microsoft.Storage/storageAccounts/queueServices/"
	tables = "Microsoft.Storage/storageAccounts/tableServices/"
)

func storageRoles(role func(id, name, about string, p Permission) *Role, with func(...string) []string) []*Role {
	const delegate = blobs + "generateUserDelegationKey/action"
	const messages = queues + "queues/messages/"
	containers := []string{blobs + "containers/delete", blobs + "containers/read", blobs + "containers/write", delegate}
	return []*Role{
		role("17d1049b-9a84-46fb-8f53-869881c3d3ab", "Storage Account Contributor", "Lets you manage storage accounts, including accessing storage account keys which provide full access to storage account data.",
			Permission{Actions: with("Microsoft.Insights/diagnosticSettings/*", "Microsoft.ResourceHealth/availabilityStatuses/read", "Microsoft.Storage/storageAccounts/*")}),
		role("81a9662b-bebf-436f-a333-f67b29880f12", "Storage Account Key Operator Service Role", "Storage Account Key Operators are allowed to list and regenerate keys on Storage Accounts.",
			Permission{Actions: []string{"Microsoft.Storage/storageAccounts/listkeys/action", "Microsoft.Storage/storageAccounts/regeneratekey/action"}}),
		role("b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "Storage Blob Data Owner", "Allows for full access to Azure Storage blob containers and data, including assigning POSIX access control.",
			Permission{Actions: []string{blobs + "containers/*", delegate}, DataActions: []string{blobs + "containers/blobs/*"}}),
		role("ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Contributor", "Allows for read, write and delete access to Azure Storage blob containers and data.",
			Permission{Actions: containers, DataActions: []string{blobs + "containers/blobs/delete", blobs + "containers/blobs/read", blobs + "containers/blobs/write",
				blobs + "containers/blobs/move/action", blobs + "containers/blobs/add/action"}}),
		role("2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", "Storage Blob Data Reader", "Allows for read access to Azure Storage blob containers and data.",
			Permission{Actions: []string{blobs + "containers/read", delegate}, DataActions: []string{blobs + "containers/blobs/read"}}),
		role("db58b8e5-c6ad-4a2a-8342-4190687cbf4a", "Storage Blob Delegator", "Allows for generation of a user delegation key which can be used to sign SAS tokens.",
			Permission{Actions: []string{delegate}}),
		role("974c5e8b-45b9-4653-ba55-5f855dd0fb88", "Storage Queue Data Contributor", "Allows for read, write, and delete access to Azure Storage queues and queue messages.",
			Permission{Actions: []string{queues + "queues/delete", queues + "queues/read", queues + "queues/write"},
				DataActions: []string{messages + "delete", messages + "read", messages + "write", messages + "process/action"}}),
		role("19e7f393-937e-4f77-808e-94535e297925", "Storage Queue Data Reader", "Allows for read access to Azure Storage queues and queue messages.",
			Permission{Actions: []string{queues + "queues/read"}, DataActions: []string{messages + "read"}}),
		role("c6a89b2d-59bc-44d0-9896-0f6e12d7b80a", "Storage Queue Data Message Sender", "Allows for sending of Azure Storage queue messages.",
			Permission{DataActions: []string{messages + "add/action"}}),
		role("8a0f0c08-91a1-4084-bc3d-661d67233fed", "Storage Queue Data Message Processor", "Allows for peek, receive, and delete access to Azure Storage queue messages.",
			Permission{DataActions: []string{messages + "read", messages + "process/action"}}),
		role("0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3", "Storage Table Data Contributor", "Allows for read, write and delete access to Azure Storage tables and entities.",
			Permission{Actions: []string{tables + "tables/read", tables + "tables/write", tables + "tables/delete"},
				DataActions: []string{tables + "tables/entities/read", tables + "tables/entities/write", tables + "tables/entities/delete",
					tables + "tables/entities/add/action", tables + "tables/entities/update/action"}}),
	}
}

func databaseRoles(role func(id, name, about string, p Permission) *Role, with func(...string) []string) []*Role {
	const cosmos = "Microsoft.DocumentDB/databaseAccounts/"
	return []*Role{
		role("5bd9cd88-fe45-4216-938b-f97437e15450", "DocumentDB Account Contributor", "Can manage Azure Cosmos DB accounts.",
			Permission{Actions: with("Microsoft.DocumentDb/databaseAccounts/*")}),
		role("fbdf93bf-df7d-467e-a4d2-9458aa1360c8", "Cosmos DB Account Reader Role", "Can read Azure Cosmos DB accounts data.",
			Permission{Actions: with("Microsoft.DocumentDB/*/read", cosmos+"readonlykeys/action")}),
		role("230815da-be43-4aae-9cb4-875f7bd000aa", "Cosmos DB Operator", "Lets you manage Azure Cosmos DB accounts, but not access data in them. Prevents access to account keys and connection strings.",
			Permission{Actions: with("Microsoft.DocumentDb/databaseAccounts/*"), NotActions: []string{cosmos + "dataTransferJobs/*", cosmos + "readonlyKeys/*", cosmos + "regenerateKey/*",
				cosmos + "listKeys/*", cosmos + "listConnectionStrings/*", cosmos + "sqlRoleDefinitions/write", cosmos + "sqlRoleDefinitions/delete",
				cosmos + "sqlRoleAssignments/write", cosmos + "sqlRoleAssignments/delete"}}),
		role("9b7fa17d-e63e-47b0-bb0a-15c516ac86ec", "SQL DB Contributor", "Lets you manage SQL databases, but not access to them.",
			Permission{Actions: with("Microsoft.Sql/locations/*/read", "Microsoft.Sql/servers/databases/*", "Microsoft.Sql/servers/read")}),
		role("6d8ee4ec-f05a-4a1d-8b00-a9b17e38b437", "SQL Server Contributor", "Lets you manage SQL servers and databases, but not access to them.",
			Permission{Actions: with("Microsoft.Sql/locations/*/read", "Microsoft.Sql/servers/*"),
				NotActions: []string{"Microsoft.Sql/servers/azureADOnlyAuthentications/delete", "Microsoft.Sql/servers/azureADOnlyAuthentications/write"}}),
		role("e0f68234-74aa-48ed-b826-c38b57376e17", "Redis Cache Contributor", "Lets you manage Redis caches, but not access to them.",
			Permission{Actions: with("Microsoft.Cache/register/action", "Microsoft.Cache/redis/*")}),
	}
}

func otherRoles(role func(id, name, about string, p Permission) *Role, with func(...string) []string) []*Role {
	data := func(id, name, about string, actions ...string) *Role {
		return role(id, name, about, Permission{DataActions: actions})
	}
	const config = "Microsoft.AppConfiguration/configurationStores/*/"
	const ai = "Microsoft.CognitiveServices/"
	return []*Role{
		role("2cc479cb-7b4d-49a8-b449-8c00fd0f0a4b", "Web Plan Contributor", "Manage the web plans for websites.", Permission{Actions: with("Microsoft.Web/serverFarms/*")}),
		data("5ae67dd6-50cb-40e7-96ff-dc2bfa4b606b", "App Configuration Data Owner", "Allows full access to App Configuration data.", config+"read", config+"write", config+"delete", config+"action"),
		data("516239f1-63e1-4d78-a4de-a74fb236a071", "App Configuration Data Reader", "Allows read access to App Configuration data.", config+"read"),
		role("090c5cfd-751d-490a-894a-3ce6f1109419", "Azure Service Bus Data Owner", "Allows for full access to Azure Service Bus resources.",
			Permission{Actions: []string{"Microsoft.ServiceBus/*"}, DataActions: []string{"Microsoft.ServiceBus/*"}}),
		data("4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0", "Azure Service Bus Data Receiver", "Allows for receive access to Azure Service Bus resources.", "Microsoft.ServiceBus/*/receive/action"),
		data("69a216fc-b8fb-44d8-bc22-1f3c2cd27a39", "Azure Service Bus Data Sender", "Allows for send access to Azure Service Bus resources.", "Microsoft.ServiceBus/*/send/action"),
		role("f526a384-b230-433a-b45c-95f59c4a2dec", "Azure Event Hubs Data Owner", "Allows for full access to Azure Event Hubs resources.",
			Permission{Actions: []string{"Microsoft.EventHub/*"}, DataActions: []string{"Microsoft.EventHub/*"}}),
		data("a638d3c7-ab3a-418d-83e6-5f17a39d4fde", "Azure Event Hubs Data Receiver", "Allows receive access to Azure Event Hubs resources.", "Microsoft.EventHub/*/receive/action"),
		data("2b629674-e913-4c01-ae53-ef4638d8f975", "Azure Event Hubs Data Sender", "Allows send access to Azure Event Hubs resources.", "Microsoft.EventHub/*/send/action"),
		role("a97b65f3-24c7-4388-baec-2e87135dc908", "Cognitive Services User", "Lets you read and list keys of Cognitive Services.",
			Permission{Actions: []string{ai + "*/read", ai + "accounts/listkeys/action", "Microsoft.Resources/deployments/read", "Microsoft.Resources/subscriptions/resourceGroups/read"},
				DataActions: []string{ai + "*"}}),
		role("5e0bd9bd-7b93-4f28-af87-19fc36ad61bd", "Cognitive Services OpenAI User", "Ability to view files, models, deployments. Readers are able to call inference operations.",
			Permission{Actions: []string{ai + "*/read", "Microsoft.Authorization/roleAssignments/read", "Microsoft.Authorization/roleDefinitions/read"},
				DataActions: []string{ai + "accounts/OpenAI/*/read", ai + "accounts/OpenAI/engines/completions/action", ai + "accounts/OpenAI/engines/search/action",
					ai + "accounts/OpenAI/engines/generate/action", ai + "accounts/OpenAI/deployments/chat/completions/action", ai + "accounts/OpenAI/deployments/completions/action",
					ai + "accounts/OpenAI/deployments/embeddings/action", ai + "accounts/OpenAI/images/generations/action"}}),
	}
}
