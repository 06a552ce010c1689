{{/* Namespaced names are fixed: the speakers find each other by the Service lanyard-speaker, and one namespace holds one
     release. Cluster-wide names carry the namespace, except where everybody expects them plain. Call with (list . "controller"). */}}
{{- define "lanyard.clusterName" -}}
{{- $root := index . 0 -}}
lanyard-{{ index . 1 }}{{ if not (and (eq $root.Release.Name "lanyard") (eq $root.Release.Namespace "lanyard-system")) }}-{{ $root.Release.Namespace }}{{ end }}
{{- end }}

{{/* Labels of an object. Call with (list . "controller"). */}}
{{- define "lanyard.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{ include "lanyard.selector" . }}
{{- end }}

{{/* Labels that pods are selected by, which never change. Call with (list . "controller"). */}}
{{- define "lanyard.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: lanyard
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The image of a program. Call with (list . "controller"). */}}
{{- define "lanyard.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.registry }}/{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The lease that the leader of the class holds: see docs/allocation.md, "Several classes". */}}
{{- define "lanyard.lease" -}}
lanyard-controller{{ with .Values.loadBalancerClass }}-{{ sha256sum . | trunc 8 }}{{ end }}
{{- end }}

{{/* The rules of a role, from the one place where they are written, config/rbac. Call with (list . "controller" "ClusterRole"). */}}
{{- define "lanyard.rules" -}}
{{- $root := index . 0 }}
{{- $kind := index . 2 }}
{{- range splitList "\n---\n" ($root.Files.Get (printf "files/rbac/%s.yaml" (index . 1))) }}
{{- $object := fromYaml . }}
{{- if eq $object.kind $kind }}
{{- range $object.rules }}
{{- $rule := . }}
{{- if and (has "leases" .resources) .resourceNames }}
{{- $rule = set (deepCopy .) "resourceNames" (list (include "lanyard.lease" $root)) }}
{{- end }}
{{ list $rule | toYaml }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Flags that both daemons have. */}}
{{- define "lanyard.args" -}}
- --namespace=$(POD_NAMESPACE)
{{- with .Values.loadBalancerClass }}
- --lb-class={{ . }}
{{- end }}
- --log-level={{ .Values.logLevel }}
- --log-format={{ .Values.logFormat }}
{{- end }}

{{/* A container that is allowed nothing. */}}
{{- define "lanyard.harmless" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A pod that runs as nobody in particular. */}}
{{- define "lanyard.nonRoot" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
