import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("org.jetbrains.kotlin.jvm")
    id("org.jetbrains.kotlin.plugin.serialization")
}

val pom = rootDir.resolve("pom.xml").readText()
fun version(name: String) = Regex("<$name.version>(.+?)</").find(pom)!!.groupValues[1]

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_1_8)
        // API 26 has the classes of Java 8.
        freeCompilerArgs.add("-Xjdk-release=1.8")
    }
}

dependencies {
    implementation("org.jetbrains.kotlinx:kotlinx-serialization-json-jvm:${version("serialization")}")
    implementation("org.bytedeco:javacpp:${version("javacpp")}")
    implementation("org.bytedeco:tensorflow-lite:${version("tensorflow-lite")}")
}

// The tests need what `make android` writes before it runs them: they are Maven's.
tasks.named("compileTestKotlin") { enabled = false }
